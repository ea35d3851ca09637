"""Who may ask: names of this server, tokens, and the sites that may post from a browser."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers

from negrefine.serving.hosts import LOOPBACK_NAMES, host_of, is_loopback
from negrefine.serving.problems import Problem
from negrefine.serving.settings import Settings


def is_own_host(headers: Headers, settings: Settings) -> bool:
    """Return whether the Host is a name of this server.

    A page of another site can let its own name point at this machine (DNS rebinding); the browser
    then takes the server's answers for those of that site, but still sends its name.
    """
    if settings.hosts is None:
        return True
    name = host_of(headers.get("host", ""))
    known = {each.lower() for each in (*settings.hosts, *settings.trusted_hosts)}
    return name in known or (is_loopback(name) and bool(known & set(LOOPBACK_NAMES)))


def check_one_length(headers: Headers) -> None:
    """Raise a Problem (400) for a body whose length is told in two ways.

    Where a proxy goes by one and this server by the other, the end of a body would be taken for the
    next request (RFC 9112, 6.1).
    """
    if "transfer-encoding" in headers and "content-length" in headers:
        raise Problem(
            400,
            "malformed",
            "The request has both Content-Length and Transfer-Encoding: send one of them.",
            {"Connection": "close"},
        )


def check_host(headers: Headers, settings: Settings) -> None:
    """Raise a Problem (421) for a Host that is none of the names of this server."""
    if not is_own_host(headers, settings):
        raise Problem(
            421,
            "host",
            "The Host of the request is none of this server's names: use its own address, or start "
            "it with --allow-host.",
        )


def check_origin(headers: Headers, settings: Settings) -> None:
    """Raise a Problem (403) for a request that a browser sends for a page of another site."""
    origin = headers.get("origin")
    site = headers.get("sec-fetch-site", "none")
    if origin is None and site in {"none", "same-origin"}:
        return
    given = origin or ""
    place = given.partition("://")[2]
    trusted = {each.lower() for each in settings.trusted_hosts}
    if place and (place.lower() == headers.get("host", "").lower() or host_of(place) in trusted):
        return
    raise Problem(
        403,
        "cross-site",
        "The request comes from a page of another site: open this server's own page, or start it "
        "with --allow-host and the name of the site.",
    )


def has_token(headers: Headers, settings: Settings) -> bool:
    """Return whether the request has the token, or none is needed."""
    if settings.token is None:
        return True
    values: Sequence[str] = headers.getlist("authorization")
    scheme, _, given = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    right = hmac.compare_digest(
        given.strip().encode("latin-1", "replace"), settings.token.encode("latin-1", "replace")
    )
    return right and scheme.lower() == "bearer"


def check_token(headers: Headers, settings: Settings) -> None:
    """Raise a Problem (401) without the token."""
    if not has_token(headers, settings):
        raise Problem(
            401,
            "token",
            "This server wants a token: send the header 'Authorization: Bearer TOKEN'.",
            {"WWW-Authenticate": 'Bearer realm="negrefine"'},
        )
