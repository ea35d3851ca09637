"""Bodies of requests to named image bytes: multipart forms and JSON, within limits."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from negrefine.constraints import Fields, Text
from negrefine.errors import InputError
from negrefine.files.reading import parse_json
from negrefine.serving.problems import Problem, shortened, shown_name

FIELD = "images"
_LONGEST_NAME = 1000
# Its brace, and the commas in it and after it.
_MARKS_OF_IMAGE = 3
_EXTENDED = re.compile(rb";\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]*)", re.IGNORECASE)
_BODIES = (
    f"send multipart/form-data with files named '{FIELD}', or JSON such as "
    '{"images": [{"name": "a.jpg", "data": "<base64>"}]}'
)


class Upload(io.BytesIO):
    """The bytes of an image, with the name that errors call it."""

    def __init__(self, given_name: str, data: bytes, position: int) -> None:
        super().__init__(data)
        self.given_name = given_name
        self.name = shown_name(given_name, position)


@dataclass(frozen=True)
class _Part:
    field: str
    file_name: str | None
    data: bytearray


async def read_images(
    content_type: str, body: AsyncIterator[bytes], max_images: int
) -> list[Upload] | bytes:
    """Return the images of a form as it is read, or the whole body of JSON for `images_of_json`.

    Raises Problem for another media type (415), a malformed form (400) or too many images (413).
    """
    media_type, options = parse_options_header(content_type.encode("latin-1", "replace"))
    if media_type == b"multipart/form-data":
        return await _read_form(options.get(b"boundary", b""), body, max_images)
    if media_type == b"application/json":
        whole = bytearray()
        async for chunk in body:
            whole += chunk
        return bytes(whole)
    given = f"not {shortened(content_type, 100)!r}" if content_type else "and it has no type"
    raise Problem(
        415,
        "media-type",
        f"The body must be a form or JSON, {given}: {_BODIES}.",
        {"Accept": "multipart/form-data, application/json"},
    )


async def _read_form(boundary: bytes, body: AsyncIterator[bytes], max_images: int) -> list[Upload]:
    if not boundary:
        raise _malformed("The form has no boundary in its Content-Type", _BODIES)
    form = _Form(max_images)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in body:
            parser.write(chunk)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise _malformed("The form is malformed or cut short", _BODIES) from error
    if not form.ended:
        raise _malformed("The form is cut short", "send it again")
    return _uploads([(part.file_name or "", bytes(part.data)) for part in form.parts])


class _Form:
    """Takes the parts of a form from the parser."""

    def __init__(self, max_images: int) -> None:
        self.parts: list[_Part] = []
        self.ended = False
        self._max_images = max_images
        self._header, self._value = b"", b""
        self._disposition = b""

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header,
            "on_header_value": self._on_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._disposition = self._header = self._value = b""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        field = options.get(b"name", b"").decode("utf-8", "backslashreplace")
        name = options.get(b"filename", _extended_name(self._disposition))
        if field != FIELD:
            raise _malformed(
                f"The form has a part named {shortened(field, 100)!r}",
                f"name each file '{FIELD}', and send nothing else",
            )
        if name is None:
            raise _malformed(
                f"A part named '{FIELD}' has no file name",
                "send files, such as by curl -F images=@a",
            )
        _check_count(len(self.parts) + 1, self._max_images)
        self.parts.append(_Part(field, name.decode("utf-8", "backslashreplace"), bytearray()))

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data.extend(memoryview(data)[start:end])

    def _end(self) -> None:
        self.ended = True


def _extended_name(disposition: bytes) -> bytes | None:
    """Return `filename*` as RFC 5987 writes it, which some clients send for names beyond ASCII."""
    found = _EXTENDED.search(disposition)
    return None if found is None else unquote_to_bytes(found[1])


def images_of_json(body: bytes, max_images: int) -> list[Upload]:
    """Return the images of a JSON body; Problem if it is malformed or has too many."""
    _check_marks(body, max_images)
    try:
        content = parse_json(body)
    except ValueError as error:
        raise _malformed(f"The body is no JSON ({error})", _BODIES) from error
    if not isinstance(content, dict) or not isinstance(content.get(FIELD), list):
        raise _malformed(f"The JSON has no list '{FIELD}'", _BODIES)
    if others := sorted(set(content) - {FIELD}):
        raise _malformed(f"The JSON has the field {shortened(others[0], 100)!r}", _BODIES)
    _check_count(len(content[FIELD]), max_images)
    return _uploads([_named_bytes(each, i) for i, each in enumerate(content[FIELD])])


def _check_marks(body: bytes, max_images: int) -> None:
    """Raise a Problem for JSON of more values than images have, which cost far more than bytes.

    Each but the first value of an array or object follows a comma, and each array and object has a
    bracket; base64 has none of these.
    """
    n_marks = sum(body.count(mark) for mark in (b",", b"[", b"{"))
    if n_marks > (max_images + 1) * (_LONGEST_NAME + _MARKS_OF_IMAGE):
        raise _malformed(
            f"The JSON has more commas and brackets than {max_images} images have", _BODIES
        )


def _named_bytes(image: Any, position: int) -> tuple[str, bytes]:
    where = f"{FIELD}[{position}]"
    try:
        Fields({"name": Text(empty=True), "data": Text(empty=True)})(where, image)
    except InputError as error:
        # It would show the whole value.
        raise _malformed(f"{where} is no object of the texts 'name' and 'data'", _BODIES) from error
    try:
        return image["name"], base64.b64decode(image["data"], validate=True)
    except (binascii.Error, ValueError) as error:
        what = "a data URL" if image["data"].startswith("data:") else "no base64"
        raise _malformed(
            f"{where}.data is {what}", "give the bytes of the file as plain base64"
        ) from error


def _uploads(named: list[tuple[str, bytes]]) -> list[Upload]:
    if not named:
        raise _malformed("The request has no image", _BODIES)
    for name, _ in named:
        if len(name) > _LONGEST_NAME:
            raise _malformed(
                f"The name {shown_name(name, 0)!r} has {len(name)} characters",
                f"give one of at most {_LONGEST_NAME}",
            )
    return [Upload(name, data, position) for position, (name, data) in enumerate(named)]


def _check_count(count: int, max_images: int) -> None:
    if count > max_images:
        raise Problem(
            413,
            "too-many-images",
            f"The request has more than {max_images} images: send them in several requests.",
        )


def _malformed(what: str, advice: str) -> Problem:
    return Problem(400, "malformed", f"{what}: {advice}.")


class Bodies:
    """The bytes of the bodies of all requests under way; the event loop alone counts them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0

    def reserve(self, n_bytes: int) -> bool:
        """Take so many bytes, if they are free."""
        if self.taken + n_bytes > self._limit:
            return False
        self.taken += n_bytes
        return True

    def release(self, n_bytes: int) -> None:
        """Give bytes back."""
        self.taken -= n_bytes


def declared_length(value: str | None, max_bytes: int) -> int | None:
    """Return Content-Length, None without one; Problem if it is too large or no number."""
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()):
        raise _malformed("Content-Length is no number", "send the length of the body in bytes")
    # Python refuses to read thousands of digits.
    length = int(value) if len(value) < 20 else max_bytes + 1
    if length > max_bytes:
        raise too_large(max_bytes)
    return length


def too_large(max_bytes: int) -> Problem:
    """Return the refusal of a body that is too large."""
    return Problem(
        413,
        "body-too-large",
        f"The body is larger than {max_bytes:,} bytes: send fewer or smaller images in a request.",
    )


async def bounded(
    receive: Callable[[], Any], max_bytes: int, *, disconnected: Callable[[], Exception]
) -> AsyncIterator[bytes]:
    """Yield the chunks of a body from ASGI; Problem as soon as they are more than `max_bytes`."""
    n_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise disconnected()
        chunk = message.get("body", b"")
        n_bytes += len(chunk)
        if n_bytes > max_bytes:
            raise too_large(max_bytes)
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return
