"""Proxies and certificates in the environment, and sentences that keep their passwords."""

from __future__ import annotations

import os
import re
import ssl
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

# Read by the HTTP clients of the hub and of openai, in upper and lower case.
_PROXIES = frozenset({"ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"})
_CERTIFICATES = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR"})


def causes(error: BaseException | None) -> list[BaseException]:
    """Return an error and what led to it, through groups of errors."""
    chain: list[BaseException] = []
    step = error
    while step is not None and step not in chain:
        chain.append(step)
        group = getattr(step, "exceptions", ())
        step = group[0] if group else step.__cause__ or step.__context__
    return chain


def bypasses_proxies(url: str) -> bool:
    """Return whether the environment's proxies are not for this address (NO_PROXY)."""
    try:
        host = urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return False
    return bool(getproxies_environment() and proxy_bypass(host))


def connection_settings(url: str = "", error: BaseException | None = None) -> str:
    """Return a sentence that names the environment's settings of connections, "" without any.

    Those are proxies, unless they are not for `url`, and certificates that are missing or, where
    `error` is about them, set.
    """
    about_certificates = any(isinstance(cause, ssl.SSLError) for cause in causes(error))
    settings: dict[str, str] = {}
    for name in sorted(os.environ):
        value = os.environ[name]
        if name.upper() in _PROXIES and value and not bypasses_proxies(url):
            settings[name] = without_password(value)
        # Many systems set these, to what is there.
        broken = about_certificates or not os.path.exists(value)  # noqa: PTH110  may be no path
        if name.upper() in _CERTIFICATES and value and broken:
            settings[name] = value
    if not settings:
        return ""
    given = ", ".join(f"{name}={value}" for name, value in settings.items())
    advice = "correct or unset them"
    if any(name.upper() in _PROXIES for name in settings):
        advice += ", or add the host to NO_PROXY"
    if any(value.startswith("socks") for value in settings.values()):
        advice += "; a SOCKS proxy needs 'pip install socksio'"
    return f" The environment has {given}: {advice}."


def reason_of(error: BaseException) -> str:
    """Return why a connection failed after a colon, "" if it might quote a proxy's password."""
    values = [value for name, value in os.environ.items() if name.upper() in _PROXIES]
    if any("@" in value for value in values):
        return ""
    said = [str(cause) for cause in causes(error) if not hasattr(cause, "exceptions")]
    return f": {next(filter(None, said), type(error).__name__)}".rstrip(".")


def without_password(url: str) -> str:
    # A password may contain "/" and "@", and the scheme may be missing.
    return re.sub(r"\A([a-z][a-z0-9+.-]*://)?.*@", r"\1", url, flags=re.IGNORECASE | re.DOTALL)
