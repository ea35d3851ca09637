"""Addresses of images elsewhere, as fsspec writes them, and how they are shown: without secrets."""

from __future__ import annotations

import re

from negrefine.errors import InputError
from negrefine.key_mask import KeyMask

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# What fetches from elsewhere and can name no file of this machine.
_ELSEWHERE = re.compile(r"(?:https?|s3a?|gs|gcs|hf|az|abfss?|adl|oss|oci|memory)://", re.IGNORECASE)
# User and password, query and fragment of each part of a chain of URLs.
_USER = re.compile(r"(?<=://)[^/?#@:]*(?::[^/?#]*)?@")
_QUERY = re.compile(r"(?<=[?#]).*")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_ANY_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]*")
_MASK = "***"

MOST_EXPANDED = 1_000_000
"""Names that a pattern with braces may stand for."""


def is_url(text: str) -> bool:
    """Return whether fsspec reads this: "s3://...", or a chain such as "zip://a.png::x.zip"."""
    return bool(_URL.match(text))


def is_elsewhere(url: str) -> bool:
    """Return whether a URL from somebody else's list cannot name a file of this machine."""
    return bool(_ELSEWHERE.match(url)) and "::" not in url


def protocol_of(url: str) -> str:
    """Return the protocol of a URL, of a chain the first one."""
    return url.partition("://")[0].lower()


def path_of(url: str) -> str:
    """Return the part of a URL that ends in the name of a file: no chain and no query."""
    first = url.partition("::")[0]
    return _strip_query(first) if _has_query(first) else first


def shown(url: str) -> str:
    """Return a URL with "***" for user, password, query and fragment."""
    return "::".join(_without_secrets(part) for part in url.split("::"))


def mask_error(url: str, error: BaseException) -> str:
    """Return the text of an error, on one line and without what `shown` hides of the URL."""
    if isinstance(error, FileNotFoundError):
        # What else went wrong is the cause, such as a server that cannot be reached.
        if error.__cause__ is None:
            return "there is no such file"
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    # As fsspec says it, with advice for programmers.
    if "support range requests" in text:
        return "the server sends only whole files, and parts are needed; download it first"
    text = _ANY_URL.sub(lambda match: shown(match[0]), text)
    for secret in _secrets(url):
        text = KeyMask(secret)(text, len(text))
    return text[:300].rstrip(".")


def expand_braces(text: str) -> list[str]:
    """Return the names that "{000..012}" stands for, in order; the text itself without braces.

    Raises InputError for more than `MOST_EXPANDED` names.
    """
    n = 1
    for first, last in _RANGE.findall(text):
        n *= abs(int(last) - int(first)) + 1
        if n > MOST_EXPANDED:
            raise InputError(
                f"{shown(text)[:200]}: stands for more than {MOST_EXPANDED:,} names; give a "
                "smaller range."
            )
    return _expanded(text)


def _expanded(text: str) -> list[str]:
    match = _RANGE.search(text)
    if match is None:
        return [text]
    first, last = int(match[1]), int(match[2])
    step = 1 if first <= last else -1
    rests = _expanded(text[match.end() :])
    numbers = range(first, last + step, step)
    return [
        f"{text[: match.start()]}{number:0{len(match[1])}}{rest}"
        for number in numbers
        for rest in rests
    ]


def _has_query(part: str) -> bool:
    # In names of objects elsewhere "?" and "#" are characters like others.
    return protocol_of(part) in {"http", "https", "webdav", "ftp"}


def _strip_query(part: str) -> str:
    return re.split(r"[?#]", part, maxsplit=1)[0]


def _without_secrets(part: str) -> str:
    masked = _USER.sub(f"{_MASK}@", part)
    return _QUERY.sub(_MASK, masked, count=1) if _has_query(part) else masked


def _secrets(url: str) -> list[str]:
    """Return users, passwords and values of queries; of less than four characters they are none."""
    found: list[str] = []
    for part in url.split("::"):
        for user in _USER.findall(part):
            found += user.rstrip("@").split(":")
        for query in _QUERY.findall(part) if _has_query(part) else ():
            found += [pair.rpartition("=")[2] for pair in query.split("&")]
    return [secret for secret in found if len(secret) > 3]
