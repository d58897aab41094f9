"""What can go wrong, and whose fault it is.

GpuKMeansError
|-- InputError (also ValueError)     the caller's
|   |-- ShapeError                   an array of the wrong shape or type
|   `-- OptionError                  an option out of its range
`-- DeviceError                      ours: a device or backend that cannot be had
"""

__all__ = ["DeviceError", "GpuKMeansError", "InputError", "OptionError", "ShapeError"]


class GpuKMeansError(Exception):
    """Any error this library raises on purpose."""


class InputError(GpuKMeansError, ValueError):
    """The caller's values cannot be clustered: NaN, infinity, nothing at all."""


class ShapeError(InputError):
    """An array has a shape or element type that is not taken."""


class OptionError(InputError):
    """An option is outside what is allowed.

    Args:
        name: The keyword, as in the signature.
        got: The value that came.
        allowed: What would have been taken, in words.
        hint: What to do instead, where it is not obvious.
    """

    def __init__(self, name: str, got: object, allowed: str, hint: str = "") -> None:
        """Compose the message from its parts and keep the parts."""
        self.name, self.got, self.allowed, self.hint = name, got, allowed, hint
        super().__init__(f"{name}={got!r} is not allowed: {allowed}{'; ' + hint if hint else ''}")

    def __reduce__(self) -> tuple[type, tuple[str, object, str, str]]:
        """Rebuild from the parts: the default would call the class with the message alone."""
        return type(self), (self.name, self.got, self.allowed, self.hint)


class DeviceError(GpuKMeansError):
    """A device or backend that was asked for cannot be had here."""
