"""Which of the forms an answer can take the caller would rather have."""

from collections.abc import Sequence


def preferred(accept: str, offers: Sequence[str]) -> str:
    """Choose by the `Accept` header.

    Args:
        accept: The header's value; empty where there is none.
        offers: Media types, our favourite first; `image/*` stands for any picture.

    Returns:
        The offer with the highest quality; the earlier one on a tie or if none fits. Never raises.

    Example:
        >>> preferred("image/avif,image/webp,*/*;q=0.8", ["application/json", "image/*"])
        'image/*'
        >>> preferred("*/*", ["application/json", "image/*"])
        'application/json'
    """
    ranges = [_parse_range(text) for text in accept.split(",")]
    return max(offers, key=lambda offer: _quality(offer, ranges))


def _parse_range(text: str) -> tuple[str, float]:
    """Read `image/png;q=0.5`; what makes no sense counts for nothing."""
    media_type, *parameters = [part.strip().lower() for part in text.split(";")]
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            return media_type, float(value) if _is_quality(value) else 0.0
    return media_type, 1.0


def _is_quality(text: str) -> bool:
    return text.replace(".", "", 1).isascii() and text.replace(".", "", 1).isdigit()


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Take the most specific range that fits, as RFC 9110 section 12.5.1 has it."""
    family = f"{offer.partition('/')[0]}/"
    exact = [
        q for name, q in ranges if name == offer or (offer == "image/*" and name.startswith(family))
    ]
    general = [q for name, q in ranges if name == f"{family}*"]
    anything = [q for name, q in ranges if name == "*/*"]
    return max(exact or general or anything or [0.0])
