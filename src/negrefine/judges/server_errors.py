"""What the errors of a chat server mean for the questions that follow."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

from negrefine.connections import reason_of
from negrefine.key_mask import KeyMask

# Statuses after which the same request may succeed.
_TRANSIENT = frozenset({408, 409, 425, 429})
# Statuses that every question would get.
_FATAL = frozenset({401, 402, 403, 404})
# Statuses of an error that arrives with status 200, by words in its code or type.
_STATUS_BY_WORD = {
    "auth": 401,
    "api_key": 401,
    "permission": 403,
    "not_found": 404,
    "notfound": 404,
    "rate_limit": 429,
    "exhausted": 429,
    "invalid": 400,
    "badrequest": 400,
    "bad_request": 400,
}
# What servers and chat templates say to a system message ("System role not supported", "Only user
# and assistant roles are supported", "Developer instruction is not enabled").
_NO_SYSTEM_ROLE = re.compile(
    r"\broles?\b|\b(system|developer)\W{0,2}\s*(message|prompt|instruction)"
    r"|\bsystem\b.{0,40}support|support.{0,40}\bsystem\b",
    re.IGNORECASE,
)
_SHOWN_CHARACTERS = 300
_READ_CHARACTERS = 4096


def raise_error_in(body: Any, response: Any) -> None:
    """Raise the error that the body of a response with status 200 holds, with its code as status.

    Without a code that is a status or says which one, it is one of the server, status 500.
    """
    from openai import APIStatusError

    error = _field(body, "error")
    if not error and _field(body, "object") == "error":
        error = body
    choices = _field(body, "choices")
    if not error and isinstance(choices, list) and choices:
        error = _field(choices[0], "error")
    if not error:
        return
    message = _field(error, "message") or (error if isinstance(error, str) else json.dumps(error))
    code, kind = (_field(error, name) for name in ("code", "type"))
    status = next(
        (int(value) for value in (code, _field(error, "status")) if _is_error_status(value)), None
    )
    if status is None:
        words = f"{code} {kind}".lower()
        status = next((status for word, status in _STATUS_BY_WORD.items() if word in words), 500)
    raised = APIStatusError(str(message), response=response, body={"code": code, "type": kind})
    raised.status_code = status
    raise raised


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _is_error_status(value: Any) -> bool:
    return re.fullmatch(r"[45][0-9][0-9]", str(value)) is not None


def words(error: Exception) -> str:
    """Return the beginning of what the server said: its message, or the body without one."""
    text = str(error)[:_READ_CHARACTERS]
    response = getattr(error, "response", None)
    if response is not None and response.content and re.fullmatch(r"Error code: \d+", text):
        text += f" - {response.content[:_READ_CHARACTERS].decode(errors='replace')}"
    return text


def refuses_system_role(error: Exception) -> bool:
    """Return whether an error may be about the role of the system message."""
    status = getattr(error, "status_code", 0)
    # Chat templates raise an exception, which is an error of the server for some servers.
    return status in {400, 422, 500, 501} and _NO_SYSTEM_ROLE.search(words(error)) is not None


def is_transient(error: Exception, *, reached: bool) -> bool:
    """Return whether the same request may succeed later; a ValueError is an unusable reply.

    If the server was never reached, nobody listens at its address, and waiting would not help.
    """
    from openai import APIConnectionError, APIError, APIStatusError

    if isinstance(error, APIStatusError):
        transient = error.status_code in _TRANSIENT or error.status_code >= 500
        return transient and error.code != "insufficient_quota"
    if isinstance(error, APIConnectionError):
        refused = {"ConnectError", "ConnectTimeout", "UnsupportedProtocol", "ProxyError"}
        return reached or type(error.__cause__).__name__ not in refused
    return isinstance(error, APIError | ValueError)


def is_fatal(error: Exception) -> bool:
    """Return whether all other questions would fail in the same way."""
    status = getattr(error, "status_code", None)
    return status in _FATAL or getattr(error, "code", None) == "insufficient_quota"


def is_filtered(error: Exception) -> bool:
    """Return whether a content filter refused the question."""
    code = getattr(error, "code", None)
    return "content_filter" in f"{code} {words(error)}" or code == "content_policy_violation"


def advice(error: Exception, model: str, api_key_env: str) -> str:
    """Return what the user can do about an error that every question gets."""
    status = getattr(error, "status_code", None)
    if status is None:
        return "check that it runs, and its address"
    if status in {401, 403}:
        return f"check the key in the environment variable {api_key_env!r}"
    if status == 407:
        return "check the user and password of the proxy that the environment names"
    if status == 404:
        return f"check the address, and that it has a model {model!r}"
    return "check the model, the options and the account"


def retry_after(error: Exception) -> float:
    """Return how many seconds the server asks to wait; 0 if it does not say."""
    response = getattr(error, "response", None)
    value = "" if response is None else response.headers.get("retry-after", "")
    with suppress(ValueError):
        return float(value)
    with suppress(ValueError, TypeError, OverflowError, LookupError):
        return parsedate_to_datetime(value).timestamp() - time.time()
    return 0.0


def error_text(error: Exception, mask: KeyMask) -> str:
    """Return an error on one line, without what the mask hides: servers repeat keys."""
    if hasattr(error, "exceptions"):
        return mask(f"the connection failed{reason_of(error)}", _SHOWN_CHARACTERS)
    text = " ".join(words(error).split()) or type(error).__name__
    if error.__cause__ is not None:
        text = text.rstrip(".") + reason_of(error.__cause__)
    return mask(text, _SHOWN_CHARACTERS)
