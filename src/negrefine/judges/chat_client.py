"""The connection to a chat server: its address, its key, and the most that it may send."""

from __future__ import annotations

import importlib
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from negrefine.connections import bypasses_proxies, connection_settings, reason_of
from negrefine.errors import InputError
from negrefine.judges.completion import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from openai import AsyncOpenAI

# A reply of 16,000 tokens with their log-probabilities. So much of each open request is kept.
MOST_BYTES = 1 << 24
# Sent where a server needs no key.
NO_KEY = "none"
# What takes part in a request, in all versions of the openai package.
LOGGING_PACKAGES = ("openai", "httpx", "httpx2", "httpcore", "httpcore2")
_CONNECT_SECONDS = 10.0
_OWN_ADDRESS = "https://api.openai.com/v1"


def check_address(url: str, name: str, api_key_env: str) -> None:
    """Raise InputError if an address is no URL or holds what messages must not show.

    `name` is where the address comes from.
    """
    if "@" in url or "?" in url or "#" in url:
        raise InputError(
            f"{name} contains a user or password ('@') or a query ('?', '#'), which logs and "
            f"messages would show: put a key into the environment variable {api_key_env!r} "
            "instead, and end the address with its path, such as '/v1'."
        )
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{name} is {url!r}: give one such as 'http://localhost:8000/v1'.")


def address(base_url: str | None, api_key_env: str) -> str:
    """Return the server's address, perhaps from $OPENAI_BASE_URL; InputError if unusable."""
    given = os.environ.get("OPENAI_BASE_URL", "").strip()
    if base_url is None and given:
        check_address(given, "The environment variable 'OPENAI_BASE_URL'", api_key_env)
    return base_url or given or _OWN_ADDRESS


def open_client(base_url: str | None, api_key_env: str, timeout: float) -> AsyncOpenAI:
    """Return a client of the openai package.

    Raises:
        InputError: The package or the key is missing, or the address or the environment's
            settings of proxies and certificates are unusable.
    """
    try:
        from openai import AsyncOpenAI, OpenAIError, Timeout
    except ImportError as error:
        raise InputError(
            "The OpenAI judge needs the package openai: pip install 'negrefine[openai]'."
        ) from error
    key = os.environ.get(api_key_env, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(
            f"The key in the environment variable {api_key_env!r} contains characters "
            "that no key has, such as line breaks or curly quotes: set it again."
        )
    url = address(base_url, api_key_env)
    if not key and url == _OWN_ADDRESS:
        raise InputError(
            f"There is no key in the environment variable {api_key_env!r}: set it, or "
            "give the base_url of a server that needs none."
        )
    try:
        _ = urlsplit(url).port  # A ValueError for ports above 65535.
    except ValueError as error:
        raise InputError(f"The server {url!r} cannot be used: {error}.") from None
    limits = Timeout(timeout, connect=min(timeout / 2, _CONNECT_SECONDS))
    try:
        return AsyncOpenAI(
            api_key=key or NO_KEY,
            base_url=url,
            timeout=limits,
            # The client's own retries do not include bodies that are not a completion.
            max_retries=0,
            http_client=_http_client(url, limits),
        )
    except OpenAIError as error:
        raise InputError(f"The server {url!r} cannot be used: {error}.") from None
    # The HTTP library has a class of its own for malformed addresses of proxies; others are an
    # ImportError (a SOCKS proxy without socksio) or an OSError (a missing file of certificates).
    except Exception as error:
        raise InputError(
            f"The server {url!r} cannot be reached with these settings"
            f"{reason_of(error)}.{connection_settings(url, error)}"
        ) from None


def _http_client(url: str, timeout: Any) -> Any:
    from openai import DefaultAsyncHttpxClient

    http: Any = _http_library()
    options: dict[str, Any] = {}
    if bypasses_proxies(url):
        # Proxies that are not used here may be unusable, and would be opened all the same.
        options = {"trust_env": False, "verify": http.create_ssl_context()}
    return DefaultAsyncHttpxClient(
        timeout=timeout,
        # What is compressed has no bounded length.
        headers={"Accept-Encoding": "identity"},
        event_hooks={"response": [_limit_to(MOST_BYTES)]},
        **options,
    )


def _http_library() -> Any:
    """Return the module of the openai package's HTTP client, which depends on its version."""
    from openai import DefaultAsyncHttpxClient

    classes = (each.__module__.partition(".")[0] for each in DefaultAsyncHttpxClient.__mro__)
    return importlib.import_module(next(name for name in classes if name.startswith("httpx")))


def _limit_to(most: int) -> Callable[[Any], Awaitable[None]]:
    """Return a hook that ends each response with a NoAnswerError after so many bytes."""
    stream_class: Any = _http_library().AsyncByteStream

    class Limited(stream_class):  # type: ignore[misc]
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            length = 0
            async for chunk in self._stream:
                length += len(chunk)
                if length > most:
                    raise NoAnswerError(f"the reply is longer than {most:,} bytes")
                yield chunk

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def limit(response: Any) -> None:
        encoding = response.headers.get("content-encoding", "identity")
        if encoding.strip().lower() not in {"", "identity"}:
            raise NoAnswerError("the reply is compressed, which was not asked for")
        response.stream = Limited(response.stream)

    return limit
