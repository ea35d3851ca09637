"""Files elsewhere, read through fsspec: how they are opened, listed and told apart."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import PurePosixPath
from typing import IO, Any

from negrefine.errors import InputError
from negrefine.sources.urls import mask_error, path_of, protocol_of, shown

_PACKAGES = {
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "smb": "smbprotocol",
}
# What tells the states of an object apart: the file systems' names for checksums and times.
_STATES = (
    *("ETag", "etag", "checksum", "md5Hash", "content_md5", "Content-MD5", "crc32c", "CRC", "sha"),
    *("blob_id", "oid", "mtime", "LastModified", "last_modified", "updated", "Last-Modified"),
    *("created", "date_time", "chksum"),
)
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_ARCHIVES = frozenset({"zip", "tar", "libarchive"})
# Members of the others share one position in the archive.
_PARALLEL = frozenset({"zip"})
_archive_lock = threading.RLock()


def filesystem(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it; archives are opened once.

    Raises InputError for a protocol that is not known or needs a package that is missing, and what
    fsspec raises otherwise.
    """
    protocol, (first, _, rest) = protocol_of(url), url.partition("::")
    if protocol not in _ARCHIVES:
        return _opened(url)
    check_protocols(url)
    with _archive_lock:
        return _archive(f"{protocol}://-::{rest}", os.getpid()), first.partition("://")[2]


@lru_cache(maxsize=4)
def _archive(url: str, _: int) -> Any:
    return _opened(url)[0]


def forget_archives() -> None:
    """Read the directories of archives again, which may have changed."""
    with _archive_lock:
        _archive.cache_clear()


def _opened(url: str) -> tuple[Any, str]:
    import fsspec.core

    check_protocols(url)
    fs, path = fsspec.core.url_to_fs(url)
    return fs, str(path)


def check_protocols(url: str) -> None:
    """Raise InputError for a protocol that is not known or needs a package that is missing."""
    if protocol_of(url) in _ARCHIVES and "::" not in url:
        raise InputError(
            f"{shown(url)}: does not name the archive; write {protocol_of(url)}://MEMBER::ARCHIVE."
        )
    for part in url.split("::"):
        if "://" in part:
            _check_protocol(protocol_of(part), url)


def _check_protocol(protocol: str, url: str) -> None:
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        how = f"pip install {package}" if package else mask_error(url, error)
        raise InputError(
            f"{shown(url)}: addresses with {protocol}:// need a package that is not installed: "
            f"{how}."
        ) from error
    except ValueError as error:
        raise InputError(
            f"{shown(url)}: fsspec knows no protocol {protocol}://; check the address."
        ) from error


@contextmanager
def open_url(url: str, *, streamed: bool = True) -> Iterator[IO[bytes]]:
    """Open what is at a URL to be read from start to end, or anywhere if not `streamed`."""
    protocol = protocol_of(url)
    # One request, also of servers that know no ranges.
    options = {"block_size": 0} if streamed and protocol in {"http", "https"} else {}
    alone = protocol in _ARCHIVES - _PARALLEL
    with _archive_lock if alone else nullcontext():
        fs, path = filesystem(url)
        with fs.open(path, "rb", **options) as stream:
            yield stream


def is_momentary(error: Exception) -> bool:
    """Whether asking again may help: a busy or restarted server, or a connection that broke."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in _BUSY
    # aiohttp's errors of connections are of no kind that Python knows.
    kinds = {each.__name__ for each in type(error).__mro__}
    return isinstance(error, (ConnectionError, TimeoutError)) or bool(
        kinds & {"ClientPayloadError", "ServerDisconnectedError"}
    )


def state_at(url: str) -> str:
    """Return what tells the state of an object, "" if it is not known."""
    try:
        fs, path = filesystem(url)
        return _state(fs.info(path))
    # File systems raise whatever their libraries do. Reading the object will say why.
    except Exception:
        return ""


def _state(info: dict[str, Any]) -> str:
    known = {name: str(info[name]) for name in _STATES if info.get(name) is not None}
    return f"{info.get('size')} {sorted(known.items())}" if known else ""


def find_urls(
    url: str, wanted: Callable[[str], bool], left_out: Counter[str]
) -> list[tuple[str, str]]:
    """Return the URL and state of each file in a folder, or matching a pattern, that is `wanted`.

    `wanted` is given the name of a file; hidden ones are skipped, and others counted by kind in
    `left_out`. The order is that of `find_images`. Raises what fsspec raises.
    """
    fs, path = filesystem(url)
    magic = has_magic(url)
    infos: dict[str, Any] = {}
    if magic:
        for match, info in fs.glob(path, detail=True).items():
            if info.get("type") == "directory":
                infos |= fs.find(match, detail=True)
            else:
                infos[match] = info
        root = path[: min(map(path.find, (c for c in "*?[" if c in path)))].rpartition("/")[0]
    else:
        infos = fs.find(path, detail=True)
        root = path
    found = []
    for name in sorted(infos, key=lambda name: PurePosixPath(name).parts):
        inside = PurePosixPath(name.removeprefix(root)).parts
        if any(part.startswith(".") and part != ".." for part in inside):
            continue
        # On the web a name may have a query, which may be a secret.
        plain = path_of(name) if _is_web(name) else name
        if wanted(plain):
            found.append((_url_of(fs, url, path, name), _state(infos[name])))
        else:
            left_out[left_out_kind(plain)] += 1
    return found


def has_magic(url: str) -> bool:
    """Return whether a URL is a pattern; in addresses of the web "?" begins a query."""
    path = path_of(url)
    return any(character in path for character in ("*[" if _is_web(url) else "*?["))


def is_folder(url: str) -> bool:
    """Return whether there is a folder at a URL; on web servers, if it ends in "/"."""
    if _is_web(url):
        return path_of(url).endswith("/")
    fs, path = filesystem(url)
    return bool(fs.isdir(path))


def left_out_kind(name: str) -> str:
    """Return the kind of a file that is no image, by its extension."""
    return PurePosixPath(name).suffix.lower().removeprefix(".") or "without extension"


def _is_web(url: str) -> bool:
    return protocol_of(url) in {"http", "https"}


def _url_of(fs: Any, url: str, path: str, name: str) -> str:
    """Return the URL of a file that was found at `path`, the path of `url`."""
    protocol, rest = protocol_of(url), url.partition("::")[2]
    if protocol in _ARCHIVES:
        return f"{protocol}://{name}::{rest}"
    if not rest and url.rstrip("/").endswith(path.rstrip("/")):
        # Users and hosts are in no path.
        return url.rstrip("/").removesuffix(path.rstrip("/")) + name
    full = str(fs.unstrip_protocol(name))
    return f"{full}::{rest}" if rest else full
