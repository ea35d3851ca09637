"""Refusals as RFC 9457 problems: a status, a title, and one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from negrefine.shown_text import json_text, visible

MEDIA_TYPE = "application/problem+json"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
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

    def content(self) -> bytes:
        """Return the body of the answer."""
        members = {
            "type": f"urn:negrefine:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": shortened(self.detail, _LONGEST),
            **self.more,
        }
        return json_text(members).encode()

    def response(self) -> Response:
        """Return the answer."""
        return Response(self.content(), self.status, dict(self.headers), MEDIA_TYPE)


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return JSON in which what is not `visible` is escaped, so that names come back as given."""
    return Response(json_text(content), status, dict(headers or {}), "application/json")


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
