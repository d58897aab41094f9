"""What the caller of `gpu_kmeans.quantization` may choose, and what is allowed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_kmeans.checks import as_tensor, check_integer, check_number
from gpu_kmeans.color import check_space
from gpu_kmeans.dithering import METHODS
from gpu_kmeans.errors import OptionError, ShapeError
from gpu_kmeans.lloyd import INITS, Fit
from gpu_kmeans.palette import MAX_COLORS, ORDERS
from gpu_kmeans.refinement import REFINE_LEVELS
from gpu_kmeans.targets import Targets

__all__ = ["QuantizeOptions", "check_palette", "check_thrift"]

MAX_THRIFT = 10.0  # of a price far above which a picture is a few blots


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions:
    """What the caller may choose, checked; `quantize` says what each means."""

    k: int | str
    k_max: int
    targets: Targets
    space: str
    dither: float
    dither_method: str
    thrift: float
    solid: bool
    palette: Tensor | None
    reserve: Tensor | None
    order: str
    curve: bool
    init: str
    n_init: int
    max_iter: int
    tol: float
    refine: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            OptionError: Naming the option, what was got and what is allowed.
        """
        if not (isinstance(self.k, str) and self.k in ("elbow", "auto")):
            allowed = f"a whole number from 1 to {MAX_COLORS}, 'elbow' or 'auto'"
            try:
                check_integer("k", self.k, low=1, high=MAX_COLORS)
            except OptionError:
                raise OptionError("k", self.k, allowed) from None
        check_integer("k_max", self.k_max, low=2, high=MAX_COLORS)
        for name in ("min_psnr", "min_quality"):
            got = getattr(self.targets, name)
            if got is not None and self.k == "elbow":
                raise OptionError(
                    name, got, "none beside k='elbow', which is another way to choose"
                )
            if got is not None and self.palette is not None:
                raise OptionError(name, got, "none beside palette, which is what it is")
        check_space(self.space)
        if str(self.dither_method) not in METHODS:
            raise OptionError("dither_method", self.dither_method, f"one of {', '.join(METHODS)}")
        if self.palette is not None and self.reserve is not None:
            raise OptionError("reserve", "colours", "none beside palette, which is the whole one")
        if str(self.order) not in ORDERS:
            raise OptionError("order", self.order, f"one of {', '.join(ORDERS)}")
        _check_switch("curve", self.curve)
        _check_switch("solid", self.solid)
        if str(self.init) not in INITS:  # an array answers "in" with an array
            raise OptionError("init", self.init, f"one of {', '.join(INITS)}")
        check_integer("n_init", self.n_init, low=1)
        check_integer("max_iter", self.max_iter, low=1)
        check_number("tol", self.tol, low=0)
        check_integer("refine", self.refine, low=0, high=max(REFINE_LEVELS))
        check_integer("seed", self.seed, low=0)

    @property
    def unheeded(self) -> tuple[str, ...]:
        """What was chosen and changes nothing, in words."""
        if self.dither_method == METHODS[0] or self.dither:
            return ()
        return (f"dither_method={self.dither_method} changes nothing where nothing is dithered",)

    def fit(self, k: int) -> Fit:
        """Return how k clusters are to be fitted."""
        return Fit(
            k=k,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            refine=self.refine,
            seed=self.seed,
        )


def _check_switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise OptionError(name, value, "True or False")


def check_thrift(thrift: float, dither: float) -> float:
    """Take the thrift of a caller.

    Raises:
        OptionError: It is out of range, or there is dithering too.
    """
    checked = check_number("thrift", thrift, low=0, high=MAX_THRIFT)
    if checked and dither:
        raise OptionError("thrift", thrift, "0 beside dither, which wants neighbours to differ")
    return checked


def check_palette(palette: object, name: str = "palette") -> Tensor:
    """Take the colours of a caller, uint8 (m, 3) or (m, 4).

    Raises:
        ShapeError: They are of another shape or type.
        OptionError: They are none, or too many.
    """
    colors = as_tensor(name, palette)
    if colors.dtype != torch.uint8 or colors.ndim != 2 or colors.shape[1] not in (3, 4):  # noqa: PLR2004
        got = f"{str(colors.dtype).removeprefix('torch.')} {tuple(colors.shape)}"
        raise ShapeError(f"a {name} must be uint8 (m, 3) or (m, 4), got {got}")
    if not 1 <= len(colors) <= MAX_COLORS:
        raise OptionError(name, f"{len(colors)} colours", f"1 to {MAX_COLORS}")
    return colors
