"""Telling how far a fit has come: one hook for a progress bar, a deadline and a cancelled request.

The hook is called between iterations with the share done, in [0, 1], which never falls. What it
raises ends the fit.
"""

from collections.abc import Callable

__all__ = ["Progress", "part_of", "rising"]

Progress = Callable[[float], None]


def rising(on_progress: Progress | None) -> Progress:
    """Pass on shares that do not fall: work that begins anew does not move back. Never raises.

    Example:
        >>> report = rising(print)
        >>> report(0.5), report(0.2)
        0.5
        0.5
        (None, None)
    """
    highest = 0.0

    def report(share: float) -> None:
        nonlocal highest
        highest = max(highest, share)
        if on_progress:
            on_progress(highest)

    return report


def part_of(on_progress: Progress, i: int, parts: int) -> Progress:
    """Report the shares of the i-th of several equal parts. Never raises.

    Example:
        >>> part_of(print, 1, 2)(0.5)
        0.75
    """

    def report(share: float) -> None:
        on_progress((i + share) / parts)

    return report
