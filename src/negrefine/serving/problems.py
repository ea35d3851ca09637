"""Refusals as RFC 9457 problems: a status, a title, and one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from negrefine.shown_text import json_text, visible

MEDIA_TYPE = "application/problem+json"
_LONGEST = 1000
_NAME = 100


@dataclass
class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """A refusal.

    Attributes:
        status: Of HTTP.
        kind: The end of its `type`, such as "queue-full".
        detail: One sentence: what, where, what to do.
        headers: Such as Retry-After.
        more: Further members.
    """

    status: int
    kind: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def response(self) -> Response:
        """Return the answer."""
        content = {
            "type": f"urn:negrefine:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": shortened(self.detail, _LONGEST),
            **self.more,
        }
        return json_response(content, self.status, self.headers, MEDIA_TYPE)


def json_response(
    content: Any,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    """Return JSON in which what is not `visible` is escaped, so that names come back as given."""
    return Response(json_text(content), status, dict(headers or {}), media_type)


def shortened(text: str, longest: int) -> str:
    """Return `visible` text of bounded length."""
    text = visible(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}\u2026"


def shown_name(name: str, position: int) -> str:
    """Return what sentences call an image, the `position`-th of a request from 0."""
    return shortened(name, _NAME) or f"image {position + 1}"


def overloaded(kind: str, detail: str, seconds: int) -> Problem:
    """Return a 503 with the seconds after which another try may succeed."""
    return Problem(503, kind, detail, {"Retry-After": str(seconds)})
