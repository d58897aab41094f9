"""What a request brings: parameters, by query or form, and one body of bytes, raw or a file."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from app.errors import BadParameter, MalformedForm, MissingImage

FILE_FIELDS = ("file", "image")
_MAX_FIELDS = 64  # more than there are parameters
_MAX_FIELD_BYTES = 4096  # a palette of 256 colours takes 2304


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The bytes of a request and its parameters, as they came.

    Attributes:
        body: A picture, or points as JSON; at least one byte.
        fields: Name and text of each parameter, of the query first; a name may come twice.
    """

    body: bytes
    fields: list[tuple[str, str]]


async def read_upload(request: Request) -> Upload:
    """Read a request, multipart or raw; the declared media type only says which of the two.

    Raises:
        MissingImage: There are no bytes.
        MalformedForm: The form does not parse.
        BadParameter: Two files, or a file under another name.
        BodyTooLarge: By the body limit in front of the application.
    """
    fields = request.query_params.multi_items()
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        body, form_fields = await _read_form(request)
        fields += form_fields
    else:
        body = await request.body()
    if not body:
        raise MissingImage("No bytes came: send the picture as the form's `file`, or as the body.")
    return Upload(body=body, fields=fields)


class _FormParser(MultiPartParser):
    """Keeps files in memory, which the body limit bounds, and knows whether a form was whole."""

    spool_max_size = 2**31
    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True


async def _read_form(request: Request) -> tuple[bytes, list[tuple[str, str]]]:
    async def whole_stream() -> AsyncGenerator[bytes, None]:
        async for chunk in request.stream():
            yield chunk
        if not parser.is_complete:  # the parser itself would take a cut form for a short one
            raise MultiPartException("It ends before its closing boundary.")

    parser = _FormParser(
        request.headers,
        whole_stream(),
        max_files=len(FILE_FIELDS),
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise MalformedForm(error.message) from error
    try:
        return await _split_form(form)
    finally:
        await form.close()


async def _split_form(form: FormData) -> tuple[bytes, list[tuple[str, str]]]:
    """Give the one picture and the parameters; the picture may have come as text."""
    files: list[bytes] = []
    fields: list[tuple[str, str]] = []
    for name, value in form.multi_items():
        if name in FILE_FIELDS:
            files.append(await value.read() if isinstance(value, UploadFile) else value.encode())
        elif isinstance(value, UploadFile):
            raise BadParameter.of(name, "a file", "the picture is the field `file`")
        else:
            fields.append((name, value))
    if len(files) > 1:
        raise BadParameter.of("file", f"{len(files)} files", "one picture a request")
    return b"".join(files), fields
