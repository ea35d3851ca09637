"""Names of machines: of this one's loopback interface, and in headers."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Any
from urllib.parse import urlsplit

from negrefine.constraints import Strings
from negrefine.errors import InputError

# Without the rest of a URL, in which others may read another host than we do.
_NAME_AND_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s\[\]@/?#\\:,]+)(:[0-9]*)?")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Return whether an address or name, without port, is of this machine's loopback interface."""
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def leads_to_loopback(host: str) -> bool:
    """Return whether a server that listens on this address or name is on the loopback interface."""
    if is_loopback(host):
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False
    return is_loopback(str(found[0][4][0]))


def check_host_names(name: str, value: Any) -> None:
    """Raise InputError for anything but names and addresses that the Host of a request may be."""
    Strings()(name, value)
    for each in value:
        written = f"[{each}]" if each.count(":") > 1 else each
        if not each or "*" in each or host_of(written) != each.lower():
            raise InputError(
                f"{name} must be a name such as 'ood.example.org', without scheme, port, path or "
                f"wildcard, not {each!r}."
            )


def host_of(value: str) -> str:
    """Return the name in a Host header or the network part of an origin, without the port.

    It is empty for what is more than a name and a port.
    """
    if not _NAME_AND_PORT.fullmatch(value):
        return ""
    try:
        return (urlsplit(f"//{value}").hostname or "").rstrip(".")
    except ValueError:
        return ""
