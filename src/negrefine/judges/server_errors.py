"""What the errors of a chat server mean for the questions that follow."""

from __future__ import annotations

import time
from contextlib import suppress
from email.utils import parsedate_to_datetime

# Statuses after which the same request may succeed.
_TRANSIENT = frozenset({408, 409, 425, 429})
# Statuses that every question would get.
_FATAL = frozenset({401, 402, 403, 404})
_SHOWN_CHARACTERS = 300


def is_transient(error: Exception, *, reached: bool) -> bool:
    """Return whether the same request may succeed later; a ValueError is an unusable reply.

    If the server was never reached, nobody listens at its address, and waiting would not help.
    """
    from openai import APIConnectionError, APIError, APIStatusError

    if isinstance(error, APIStatusError):
        transient = error.status_code in _TRANSIENT or error.status_code >= 500
        return transient and error.code != "insufficient_quota"
    if isinstance(error, APIConnectionError):
        refused = {"ConnectError", "ConnectTimeout", "UnsupportedProtocol"}
        return reached or type(error.__cause__).__name__ not in refused
    return isinstance(error, APIError | ValueError)


def is_fatal(error: Exception) -> bool:
    """Return whether all other questions would fail in the same way."""
    status = getattr(error, "status_code", None)
    return status in _FATAL or getattr(error, "code", None) == "insufficient_quota"


def is_filtered(error: Exception) -> bool:
    """Return whether a content filter refused the question."""
    code = getattr(error, "code", None)
    return "content_filter" in f"{code} {error}" or code == "content_policy_violation"


def advice(error: Exception, model: str, api_key_env: str) -> str:
    """Return what the user can do about an error that every question gets."""
    status = getattr(error, "status_code", None)
    if status is None:
        return "check that it runs, and its address"
    if status in {401, 403}:
        return f"check the key in the environment variable {api_key_env!r}"
    if status == 404:
        return f"check the address, and that it has a model {model!r}"
    return "check the model, the options and the account"


def retry_after(error: Exception) -> float:
    """Return how many seconds the server asks to wait; 0 if it does not say."""
    response = getattr(error, "response", None)
    value = "" if response is None else response.headers.get("retry-after", "")
    with suppress(ValueError):
        return float(value)
    with suppress(ValueError, TypeError):
        return parsedate_to_datetime(value).timestamp() - time.time()
    return 0.0


def error_text(error: Exception, key: str) -> str:
    """Return an error on one line, with "***" for the key, if any, which some servers repeat."""
    text = " ".join(str(error).split()) or type(error).__name__
    cause = error.__cause__
    if cause is not None and str(cause) and str(cause) not in text:
        text += f" {cause}"
    # Cut last: a cut within the key would hide the rest of it from the search.
    return (text.replace(key, "***") if key else text)[:_SHOWN_CHARACTERS]
