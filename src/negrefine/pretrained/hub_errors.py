"""What goes wrong between this machine and the hub, as one sentence without tokens."""

from __future__ import annotations

import os
import re
import ssl

from negrefine.connections import causes, connection_settings, reason_of
from negrefine.key_mask import KeyMask
from negrefine.pretrained.hub import HUB_ADDRESS
from negrefine.pretrained.hub_address import HubAddress

# So much is shown of what a server says.
_SAID = 300
_LOGIN = "log in with 'hf auth login', or set HF_TOKEN"


def is_unreachable(error: Exception) -> bool:
    """Return whether no answer came, so that what is in the cache is all there is."""
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return True
    status = _status(error)
    return status >= 500 if status else _is_of_connection(error)


def hub_failure(
    error: Exception, address: HubAddress, action: str, token: str | None = None
) -> str:
    """Return a sentence for an error of huggingface_hub.

    Args:
        error: What was raised.
        address: The repository.
        action: What was tried, such as "be read".
        token: The token that was given; with that of the environment it is kept out of the text.
    """
    from huggingface_hub import errors

    cannot = f"{str(address)!r} cannot {action}"
    known = {
        errors.OfflineModeIsEnabled: f"{cannot}, because HF_HUB_OFFLINE is set: unset it.",
        errors.GatedRepoError: (
            f"{str(address)!r} is gated: accept its terms on the hub, and {_LOGIN}."
        ),
        errors.RepositoryNotFoundError: (
            f"The hub has no repository {address.repository!r} that you may see: check the "
            f"spelling, and if it is private {_LOGIN}."
        ),
        errors.RevisionNotFoundError: (
            f"{address.repository!r} has no revision {address.revision!r}: check the spelling."
        ),
    }
    for kind, sentence in known.items():
        if isinstance(error, kind):
            return sentence
    status, said = _status(error), _said(error, token)
    if status:
        return f"{cannot}, because {_refusal(status, said)}"
    if not _is_of_connection(error):
        name = type(causes(error)[-1]).__name__
        return f"{cannot} ({name}){said}: try again, or upgrade huggingface_hub."
    settings = connection_settings(os.environ.get("HF_ENDPOINT", HUB_ADDRESS), error)
    chain = causes(error)
    bad = next((c for c in chain if isinstance(c, (ImportError, ssl.SSLError))), None)
    if settings and bad:
        return f"The hub cannot be reached with these settings{reason_of(bad)}.{settings}"
    return f"{cannot}, because the hub cannot be reached: try again.{settings}"


def _refusal(status: int, said: str) -> str:
    if status == 401:
        return f"no valid token is given{said}: {_LOGIN}."
    if status == 403:
        return f"your token does not permit it{said}: give one with write access to it."
    if status in {409, 412}:
        return f"somebody else has changed it meanwhile{said}: look at it, and try again."
    what = "the hub failed" if status >= 500 else "the hub refused it"
    return f"{what} with status {status}{said}: try again{' later' if status >= 500 else ''}."


def _status(error: Exception) -> int | None:
    """Return the status of the answer that caused an error, None without any."""
    for cause in causes(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _is_of_connection(error: Exception) -> bool:
    """Return whether a connection failed; the classes differ between HTTP clients."""
    return any(
        isinstance(cause, (ConnectionError, TimeoutError, ssl.SSLError, ImportError))
        or {"TransportError", "RequestException", "LocalEntryNotFoundError"}
        & {cls.__name__ for cls in type(cause).__mro__}
        for cause in causes(error)
    )


def _said(error: Exception, token: str | None) -> str:
    """Return the words of a server or an error in parentheses, "" without any.

    They may repeat the token.
    """
    from huggingface_hub import get_token

    words = getattr(error, "server_message", None)
    if words is None and _status(error) is None:
        words = str(causes(error)[-1])
    text = re.sub(r"\s+", " ", words if isinstance(words, str) else "").strip().rstrip(".:")
    for key in (token, get_token()):
        text = KeyMask(key or "")(text, _SAID)
    return f" ({text})" if text else ""
