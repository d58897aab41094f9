"""What the front doors may answer when something goes wrong, and whose fault it is.

ServiceError
|-- BodyTooLarge          the request is longer than we read
|-- UnsupportedFormat     the bytes are no picture we take
|-- MissingImage        no picture came, or one of zero bytes
|-- MalformedForm         the multipart body is broken
|-- CorruptImage        a picture of a format we take, but it does not decode
|-- TooManyPixels         its header promises more pixels than we hold
|-- BadParameter          unknown, given twice, or out of range
|-- BadPoints             the points are not a finite table of numbers
|-- BadRequest            what came is no HTTP
|-- HeadersTooLarge       headers without end
|-- RequestTimeout        the request came too slowly
|-- Unauthorized          no key, or none we know
|-- QueueFull             ours: too much to do, or too much for this client
|-- DeadlineExceeded      ours: computing took too long
|-- NotReady              ours: starting, or stopping
|-- OutOfMemory           ours: the device had no room for this job
`-- DeviceUnavailable     ours: the device cannot be had

One table gives each its HTTP status, its code and its title; the answer is RFC 9457's
`application/problem+json`. Errors carry only what anyone may read. They know no web framework and
survive pickling, so that the decoder can raise them from another process.
"""
# ruff: noqa: N818 - the names say what is wrong; the base says that they are errors

from collections.abc import Mapping

PROBLEM_MEDIA_TYPE = "application/problem+json"
_LONGEST_ECHO = 80  # characters of a bad value that are repeated to its sender


class ServiceError(Exception):
    """Anything this service refuses or cannot do, said in words that may be shown to anyone.

    Args:
        detail: What happened and what to do about it, one or two sentences.
        members: Further members of the problem document, such as the limit that was met.
    """

    def __init__(self, detail: str, members: Mapping[str, object] | None = None) -> None:
        self.detail, self.members = detail, dict(members or {})
        super().__init__(detail, self.members)

    def __str__(self) -> str:
        return self.detail


class BodyTooLarge(ServiceError):
    """The request body is longer than `max_body_bytes`. The caller's."""


class UnsupportedFormat(ServiceError):
    """The bytes do not begin like any picture we take. The caller's."""


class MissingImage(ServiceError):
    """No picture came, or one of zero bytes. The caller's."""


class MalformedForm(ServiceError):
    """A multipart body that does not parse. The caller's."""


class CorruptImage(ServiceError):
    """The picture begins well but does not decode: truncated, damaged or hostile. The caller's."""


class TooManyPixels(ServiceError):
    """The header promises more than `max_pixels`. The caller's."""


class BadParameter(ServiceError):
    """A parameter is unknown, given twice, or outside what is allowed. The caller's."""

    @classmethod
    def of(cls, name: str, got: object, allowed: str) -> "BadParameter":
        """Name the parameter, what was got and what is allowed, in the text and as members.

        Example:
            >>> str(BadParameter.of("k", "many", "1..256, elbow or auto"))
            "k='many' is not allowed: 1..256, elbow or auto"
        """
        echo = repr(got) if len(repr(got)) <= _LONGEST_ECHO else f"{repr(got)[:_LONGEST_ECHO]}..."
        members = {"parameter": name, "got": echo.strip("'"), "allowed": allowed}
        return cls(f"{name}={echo} is not allowed: {allowed}", members)


class BadPoints(ServiceError):
    """Points that are not finite, none at all, ragged or no numbers. The caller's."""


class BadRequest(ServiceError):
    """The bytes on the connection are no HTTP request. The caller's."""


class HeadersTooLarge(ServiceError):
    """The request's headers are longer than `max_header_bytes`. The caller's."""


class RequestTimeout(ServiceError):
    """The request did not come within the time it has. The caller's."""


class Unauthorized(ServiceError):
    """The request brings no key, or none of those that are set. The caller's."""


class QueueFull(ServiceError):
    """More is waiting than we want to make anyone wait for. Ours; `retry_after_s` says how long."""


class DeadlineExceeded(ServiceError):
    """Computing took longer than `compute_timeout_s`, waiting included. Ours."""


class NotReady(ServiceError):
    """Still starting, or already stopping. Ours; it passes by itself."""


class OutOfMemory(ServiceError):
    """The job did not fit into memory, tried again alone. Ours."""


class DeviceUnavailable(ServiceError):
    """The device or backend that was asked for cannot be had. Ours."""


class InternalError(ServiceError):
    """A defect of this service; what happened is in the log only. Ours."""


TABLE: dict[type[ServiceError], tuple[int, str, str]] = {
    BodyTooLarge: (413, "too-large", "The request is too large"),
    UnsupportedFormat: (415, "unsupported-format", "Not a picture format we take"),
    MissingImage: (422, "missing-image", "There is no picture in the request"),
    MalformedForm: (422, "malformed-form", "The form does not parse"),
    CorruptImage: (422, "corrupt-image", "The picture does not decode"),
    TooManyPixels: (422, "too-many-pixels", "The picture has too many pixels"),
    BadParameter: (422, "bad-parameter", "A parameter is not allowed"),
    BadPoints: (422, "bad-points", "The points cannot be clustered"),
    BadRequest: (400, "bad-request", "This is no HTTP request"),
    HeadersTooLarge: (431, "headers-too-large", "The headers are too large"),
    RequestTimeout: (408, "request-timeout", "The request came too slowly"),
    Unauthorized: (401, "unauthorized", "A key is needed"),
    QueueFull: (429, "queue-full", "Too much is waiting"),
    DeadlineExceeded: (504, "deadline-exceeded", "Computing took too long"),
    NotReady: (503, "not-ready", "The service is starting or stopping"),
    OutOfMemory: (503, "out-of-memory", "The job did not fit into memory"),
    DeviceUnavailable: (503, "device-unavailable", "The device cannot be had"),
    InternalError: (500, "internal-error", "The service failed"),
}


def problem(error: ServiceError) -> dict[str, object]:
    """Write an error as a problem document.

    Returns:
        The members of RFC 9457, `code`, and those of the error. Never raises.

    Example:
        >>> problem(MissingImage("The file has no bytes."))["type"]
        'urn:gpu-kmeans:missing-image'
    """
    status, code, title = TABLE[type(error)]
    return problem_document(status, code, title, error.detail) | error.members


def problem_document(status: int, code: str, title: str, detail: str) -> dict[str, object]:
    """Write the members every problem document has. Never raises.

    Example:
        >>> problem_document(404, "not-found", "Not found", "There is nothing at /x.")["status"]
        404
    """
    return {
        "type": f"urn:gpu-kmeans:{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
    }
