"""Checking what callers hand in, once, at the public edge; inside, everything is trusted.

Arrays come as numpy or torch and go on as torch tensors, without a copy where the type fits.
"""

import math
import numbers

import numpy as np
import torch
from torch import Tensor

from gpu_kmeans.errors import DeviceError, InputError, OptionError, ShapeError

__all__ = [
    "as_tensor",
    "check_coordinates",
    "check_device",
    "check_integer",
    "check_number",
    "check_pixels",
    "check_points",
    "like",
]

# Squared distances, and sums of a billion of them, must stay finite.
LARGEST = {torch.float32: 1e14, torch.float64: 1e140}


def check_integer(name: str, value: object, *, low: int, high: int | None = None) -> int:
    """Return the value if it is a whole number in [low, high].

    Raises:
        OptionError: It is not; a bool and 1.0 are not whole numbers here.

    Example:
        >>> check_integer("k", 3, low=1)
        3
    """
    allowed = f"a whole number from {low}" + (" up" if high is None else f" to {high}")
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise OptionError(name, value, allowed)
    number = int(value)
    if number < low or (high is not None and number > high):
        raise OptionError(name, value, allowed)
    return number


def check_number(name: str, value: object, *, low: float, high: float = math.inf) -> float:
    """Return the value if it is a finite number in [low, high].

    Raises:
        OptionError: It is not.

    Example:
        >>> check_number("tol", 0, low=0)
        0.0
    """
    allowed = f"a number from {low:g}" + (" up" if high == math.inf else f" to {high:g}")
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise OptionError(name, value, allowed)
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond all floats
        number = math.inf
    if not (low <= number <= high and math.isfinite(number)):
        raise OptionError(name, value, allowed)
    return number


def check_device(device: object, allowed: str = "'cpu' or 'cuda'") -> torch.device:
    """Find a device by its name, and see that it is there.

    Args:
        device: A name, or a `torch.device`.
        allowed: What would have been taken, in words.

    Returns:
        The device.

    Raises:
        OptionError: It is no name of a device.
        DeviceError: The device cannot be had here.

    Example:
        >>> check_device("cpu")
        device(type='cpu')
    """
    try:
        found: torch.device = torch.device(device)  # type: ignore[call-overload] # who knows what
    except (RuntimeError, TypeError) as error:
        raise OptionError("device", device, allowed) from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device={str(device)!r}: CUDA cannot be had here; use 'cpu'")
    try:
        torch.zeros(1, device=found).cpu()
    except RuntimeError as error:
        why = str(error).partition("\n")[0]
        raise DeviceError(f"device={str(device)!r} cannot be had here: {why}") from error
    return found


def as_tensor(name: str, values: object) -> Tensor:
    """Take a numpy array or a torch tensor as a tensor, sharing memory where that is safe.

    Raises:
        ShapeError: It is neither, ragged, or not of numbers.

    Example:
        >>> as_tensor("points", np.zeros((1, 2))).shape
        torch.Size([1, 2])
    """
    if isinstance(values, Tensor):
        return _dense_real(name, values.detach())
    try:
        array = np.asarray(values)
    except ValueError:  # what numpy says of rows of different lengths
        raise ShapeError(f"{name} must be a table without gaps, got ragged rows") from None
    if array.dtype.kind not in "biuf":
        raise ShapeError(f"{name} must hold real numbers, got {array.dtype}")
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float64)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.float64 if array.dtype.itemsize == 8 else np.int64)  # noqa: PLR2004
    # torch wants native, writable memory without negative strides; a copy serves the rest.
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if min(native.strides, default=0) < 0:  # C-contiguous or not: an axis of length 1 may have one
        native = native.copy()
    return torch.from_numpy(np.require(native, requirements=["C", "W"]))


def _dense_real(name: str, values: Tensor) -> Tensor:
    if values.layout != torch.strided:
        raise ShapeError(f"{name} must be dense, got {values.layout}: use to_dense()")
    if values.is_complex():
        raise ShapeError(f"{name} must hold real numbers, got {values.dtype}")
    return values


def check_points(points: object, weights: object = None) -> tuple[Tensor, Tensor]:
    """Take points (n, d) and their weights as tensors on one device.

    Args:
        points: Numbers; integers become float64, half precision float32 in a tensor and float64 in
            an array.
        weights: (n,) or None for ones.

    Returns:
        Points, float32 or float64, and weights, float64.

    Raises:
        ShapeError: Not (n, d), or the weights do not fit.
        InputError: Empty, NaN, infinite or too large, a negative weight, or no positive one.

    Example:
        >>> check_points([[1, 2]])[0]
        tensor([[1., 2.]], dtype=torch.float64)
    """
    table = as_tensor("points", points)
    if table.ndim != 2:  # noqa: PLR2004
        raise ShapeError(f"points must be (n, d), got {table.ndim} dimensions {tuple(table.shape)}")
    if not table.numel():
        raise InputError(f"there are no points to cluster: got {tuple(table.shape)}")
    if not table.is_floating_point():
        table = table.to(torch.float64)
    elif table.dtype not in (torch.float32, torch.float64):
        table = table.to(torch.float32)
    size = check_coordinates("points", table)
    if weights is None:
        return table, torch.ones(len(table), dtype=torch.float64, device=table.device)
    return table, _checked_weights(weights, table, max(1.0, size))


def _checked_weights(weights: object, table: Tensor, size: float) -> Tensor:
    masses = as_tensor("weights", weights).to(device=table.device, dtype=torch.float64)
    if masses.shape != table.shape[:1]:
        raise ShapeError(
            f"weights must be ({len(table)},) like the points, got {tuple(masses.shape)}"
        )
    least, most = _extremes("weights", masses)
    if least < 0:
        raise InputError(f"weights must not be negative, got {least:g}")
    if not most > 0:
        raise InputError("there are no points to cluster: every weight is 0")
    total = float(masses.sum())
    if not math.isfinite(total * table.shape[1] * (2 * size) ** 2):
        raise InputError(f"weights add up to {total:g}: too much, sums of squares would overflow")
    return masses


def check_coordinates(name: str, table: Tensor) -> float:
    """Refuse coordinates whose squared distances are not finite.

    Returns:
        The largest in size.

    Raises:
        InputError: NaN, infinite, or so large that squares overflow.

    Example:
        >>> check_coordinates("points", torch.tensor([[1.0, -2.0]]))
        2.0
    """
    size, limit = max(map(abs, _extremes(name, table))), LARGEST[table.dtype]
    if size > limit:
        allowed = f"at most {limit:g} in size, or their squares overflow"
        raise InputError(f"{name} must be {allowed}: got {size:g}")
    return size


def check_pixels(pixels: object) -> Tensor:
    """Take a picture as a tensor.

    Args:
        pixels: uint8 (h, w, 3) or (h, w, 4).

    Returns:
        The same values.

    Raises:
        ShapeError: Not that shape or type, or no pixels at all.

    Example:
        >>> check_pixels(np.zeros((2, 3, 3), np.uint8)).shape
        torch.Size([2, 3, 3])
    """
    picture = as_tensor("pixels", pixels)
    if picture.dtype != torch.uint8 or picture.ndim != 3 or picture.shape[2] not in (3, 4):  # noqa: PLR2004
        got = f"{str(picture.dtype).removeprefix('torch.')} {tuple(picture.shape)}"
        raise ShapeError(f"a picture must be uint8 (h, w, 3) or (h, w, 4), got {got}")
    if not picture.numel():
        raise ShapeError(f"the picture has no pixels: got {tuple(picture.shape)}")
    return picture


def like(values: Tensor | np.ndarray, original: object) -> Tensor | np.ndarray:
    """Return values as the kind the caller uses: a tensor for a tensor, else a numpy array.

    Never raises.

    Example:
        >>> like(torch.zeros(1), np.zeros(1))
        array([0.], dtype=float32)
    """
    is_wanted = isinstance(values, Tensor) == isinstance(original, Tensor)
    return values if is_wanted else torch.as_tensor(values).numpy()


def _extremes(name: str, values: Tensor) -> tuple[float, float]:
    """Return the least and the largest number; refuse any that is not finite.

    In numpy where the processor holds them: torch's team of threads waits for busy cores.
    """
    array = values.numpy() if values.device.type == "cpu" else values
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        finite = values.isfinite()
        bad = values[~finite][0].item()
        raise InputError(f"{name} must be finite, got {bad} in row {_first_row(finite)}")
    return low, high


def _first_row(finite: Tensor) -> int:
    by_row = finite if finite.ndim == 1 else finite.all(dim=1)
    return int((~by_row).nonzero()[0])
