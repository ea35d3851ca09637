"""Writing and reading the directory of a saved detector: JSON, JSON lines and safetensors.

The names of data files carry a digest of their content, so a new version is written beside the old
one, and replacing detector.json, which says what belongs to the detector, is the one step that
changes it. A process killed at any moment leaves the old detector or the new one.

Writers lock the directory, so that none removes what another is about to name. Readers do not:
one whose files were replaced while it read takes the lock and reads again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from negrefine.errors import BundleError
from negrefine.files.lock import lock_directory
from negrefine.files.reading import parse_json, read_bytes, read_json, reason
from negrefine.files.regular import NotRegularError
from negrefine.shown_text import json_text

FORMAT = "negrefine-detector"
FORMAT_VERSION = 2
# Versions that do not know thresholds by class would decide with the one of all images.
BY_CLASS_VERSION = 3
MANIFEST = "detector.json"
_ARRAYS = "features.safetensors"
_WRITTEN_HERE = re.compile(
    r"(detector\.json|[a-z_]+-[0-9a-f]{12}\.(jsonl|safetensors))(\.[0-9a-f]+\.tmp)?"
)
_DATA_NAME = re.compile(r"[a-z_]+\.(jsonl|safetensors)")
_DIGEST = re.compile(r"[0-9a-f]{64}")
MANIFEST_BYTES = 16 << 20
DATA_BYTES = 4 << 30
# Where directories cannot be locked, files this old belong to no writer or reader at work.
_LEFT_OVER_SECONDS = 3600

# float32 features, and float64 scores if the detector is calibrated.
Arrays = dict[str, NDArray[Any]]
Tables = dict[str, list[dict[str, Any]]]


def write_bundle(
    path: str | os.PathLike[str],
    facts: dict[str, Any],
    arrays: Arrays,
    tables: Tables,
    *,
    replacing: str | None = None,
    by_class: bool = False,
) -> None:
    """Write a directory atomically; a saved detector in it is replaced, other files stay.

    The facts go into detector.json, the arrays into features-DIGEST.safetensors, and each table
    into NAME-DIGEST.jsonl. `replacing` is the `version_of` the detector that may be replaced.
    A detector with thresholds `by_class` has a format of its own, which older versions refuse.

    Raises BundleError if the path holds something else or is unwritable, if the detector is too
    large to be read again, or if another process has replaced the one that may be replaced.
    """
    check_target(path)
    target = Path(path)
    contents = {_ARRAYS: save(arrays)}
    for name, rows in tables.items():
        lines = (json_text(row) + "\n" for row in rows)
        contents[f"{name}.jsonl"] = "".join(lines).encode("utf-8")
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    manifest = {
        "format": FORMAT,
        "format_version": BY_CLASS_VERSION if by_class else FORMAT_VERSION,
        "negrefine_version": own_version(),
        **facts,
        "files": digests,
    }
    manifest["checksum"] = _checksum(manifest)
    text = f"{json_text(manifest, indent=2)}\n".encode()
    if len(text) > MANIFEST_BYTES or max(map(len, contents.values())) > DATA_BYTES:
        raise BundleError(
            f"The detector cannot be saved in {str(target)!r}: detector.json may have "
            f"{MANIFEST_BYTES >> 20} MiB and each other file {DATA_BYTES >> 30} GiB; fit fewer "
            "class names or negative labels."
        )
    files = {_stored_name(name, digests[name]): data for name, data in contents.items()}
    _write_files(target, files, text, replacing)


def copy_bundle(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Copy a saved detector to a directory, atomically as `write_bundle`, its bytes unchanged.

    Raises BundleError if the source cannot be read as a whole, and as `write_bundle`.
    """
    directory, target = Path(source), Path(path)
    check_target(target)
    read_bundle(directory)
    text = read_bytes(directory / MANIFEST, MANIFEST_BYTES)
    names = {
        _stored_name(name, digest): _read_checked(directory, name, digest)
        for name, digest in _named_files(directory, _read_manifest(directory)).items()
    }
    if read_bytes(directory / MANIFEST, MANIFEST_BYTES) != text:
        raise BundleError(f"The detector in {str(directory)!r} was replaced meanwhile: try again.")
    _write_files(target, names, text)


def _write_files(
    target: Path, files: Mapping[str, bytes], manifest: bytes, replacing: str | None = None
) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
        with lock_directory(target) as locked:
            if replacing is not None and version_of(target) != replacing:
                raise BundleError(
                    f"The detector in {str(target)!r} was replaced by another process meanwhile, "
                    "so it was not saved there again: run the command again."
                )
            for name, data in files.items():
                _replace(target / name, data)
            _replace(target / MANIFEST, manifest)
            _remove_others(target, {MANIFEST, *files}, every=locked)
    except OSError as error:
        raise _unwritable(target, error) from error


def _remove_others(target: Path, ours: set[str], *, every: bool) -> None:
    """Remove what earlier and killed writers left, unless somebody may be about to use it."""
    for file in target.iterdir():
        if not _WRITTEN_HERE.fullmatch(file.name) or file.name in ours:
            continue
        # A file that cannot be removed does no harm, and the detector is saved.
        with suppress(OSError):
            if every or time.time() - file.lstat().st_mtime > _LEFT_OVER_SECONDS:
                file.unlink()


def version_of(path: str | os.PathLike[str]) -> str:
    """Return a text that changes whenever the saved detector is replaced by a different one.

    Raises BundleError as `read_bundle`.
    """
    return _checksum(_read_manifest(Path(path)))


def manifest_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return detector.json without its checksum, which was right; BundleError as `read_bundle`."""
    return _read_manifest(Path(path))


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise BundleError for a path that holds anything but a saved (or partly saved) detector."""
    target = Path(path)
    try:
        names = {file.name for file in target.iterdir()}
        ours = MANIFEST in names and FORMAT.encode() in _content(target / MANIFEST)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        if not target.exists():
            raise _unwritable(target, error) from error
        names, ours = {""}, False
    except OSError as error:
        raise _unwritable(target, error) from error
    if not ours and (MANIFEST in names or not all(map(_WRITTEN_HERE.fullmatch, names))):
        raise BundleError(
            f"{str(target)!r} exists and is not a saved detector: choose another path."
        )


def read_bundle(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Arrays, Tables]:
    """Return detector.json, the arrays, and the tables by name, as `write_bundle` wrote them.

    Raises BundleError if nothing is there, files are damaged or changed, or the format is newer.
    """
    directory = Path(path)
    try:
        return _read_once(directory)
    except BundleError as error:
        # Another process may have replaced the detector between the files.
        try:
            with lock_directory(directory, shared=True):
                return _read_once(directory)
        except TimeoutError as busy:
            raise BundleError(
                f"The detector in {str(directory)!r} cannot be read: {busy.strerror}; try again."
            ) from busy
        except OSError:
            raise error from None


def _read_once(directory: Path) -> tuple[dict[str, Any], Arrays, Tables]:
    manifest = _read_manifest(directory)
    files = {
        name: _read_checked(directory, name, digest)
        for name, digest in _named_files(directory, manifest).items()
    }
    try:
        tables = {
            name.removesuffix(".jsonl"): [parse_json(line) for line in data.split(b"\n") if line]
            for name, data in files.items()
            if name.endswith(".jsonl")
        }
    except ValueError as error:
        raise damaged(directory, f"a table cannot be read: {error}") from error
    try:
        return manifest, load(files[_ARRAYS]), tables
    except (KeyError, SafetensorError) as error:
        raise damaged(directory, f"{_ARRAYS} cannot be read") from error


def _named_files(directory: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """Return the digests of data files by name."""
    digests = manifest.get("files")
    if not isinstance(digests, dict):
        raise damaged(directory, f"{MANIFEST} names no files")
    for name, digest in digests.items():
        if Path(name).name != name:
            raise damaged(directory, f"{MANIFEST} names a file outside the directory")
        if not (
            _DATA_NAME.fullmatch(name) and isinstance(digest, str) and _DIGEST.fullmatch(digest)
        ):
            raise damaged(directory, f"{MANIFEST} names a file that no detector has")
    return digests


def stored_files(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of the files beside detector.json that belong to the detector.

    Raises BundleError as `read_bundle` for detector.json; the files need not be there.
    """
    directory = Path(path)
    digests = _named_files(directory, _read_manifest(directory))
    return sorted(_stored_name(name, digest) for name, digest in digests.items())


def is_written_here(name: str) -> bool:
    """Return whether a file of this name is one of a saved detector."""
    return bool(_WRITTEN_HERE.fullmatch(name))


def damaged(directory: Path, what: str) -> BundleError:
    """Return the error for a directory whose contents cannot be trusted."""
    return BundleError(
        f"The saved detector in {str(directory)!r} is damaged ({what}): fit and save it again."
    )


def _read_manifest(directory: Path) -> dict[str, Any]:
    file = directory / MANIFEST
    try:
        manifest = read_json(file, MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            f"{str(directory)!r} holds no saved detector ({MANIFEST} is missing): "
            "give the directory that save() or 'negrefine fit --out' wrote."
        ) from error
    except (OSError, ValueError) as error:
        raise damaged(directory, f"{MANIFEST} cannot be read: {reason(error)}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise damaged(directory, f"{MANIFEST} does not describe a detector")
    if type(manifest.get("format_version")) is not int:
        raise damaged(directory, f"{MANIFEST} has no format version")
    # The checksum is the same in all formats, so a flipped bit does not pass for another format.
    checksum = manifest.pop("checksum", None)
    if checksum != _checksum(manifest):
        raise damaged(directory, f"{MANIFEST} was changed after it was written")
    if manifest["format_version"] > BY_CLASS_VERSION:
        raise BundleError(
            f"The detector in {str(directory)!r} was written by negrefine "
            f"{manifest.get('negrefine_version')} in format {manifest['format_version']}, and this "
            f"version reads up to {BY_CLASS_VERSION}: upgrade negrefine."
        )
    if manifest["format_version"] < FORMAT_VERSION:
        raise BundleError(
            f"The detector in {str(directory)!r} was written in format "
            f"{manifest['format_version']} by an older version of negrefine: fit it again."
        )
    return manifest


def _read_checked(directory: Path, name: str, digest: str) -> bytes:
    stored = _stored_name(name, digest)
    try:
        data = read_bytes(directory / stored, DATA_BYTES)
    except FileNotFoundError as error:
        raise damaged(directory, f"{stored} is missing") from error
    except (OSError, ValueError) as error:
        raise damaged(directory, f"{stored} cannot be read: {reason(error)}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise damaged(directory, f"{stored} is truncated or was changed after it was written")
    return data


def _content(manifest: Path) -> bytes:
    """Return the content of a file called detector.json, nothing if it cannot be ours."""
    try:
        return read_bytes(manifest, MANIFEST_BYTES)
    except (NotRegularError, ValueError):
        return b""


def _checksum(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def own_version() -> str:
    """Return the version of negrefine, "unknown" where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("negrefine")
    except PackageNotFoundError:
        return "unknown"


def _stored_name(name: str, digest: str) -> str:
    stem, _, suffix = name.rpartition(".")
    return f"{stem}-{digest[:12]}.{suffix}"


def _replace(file: Path, data: bytes) -> None:
    # A name of its own, for where directories cannot be locked.
    temporary = file.with_name(f"{file.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(target: Path, error: OSError) -> BundleError:
    return BundleError(f"The detector cannot be written to {str(target)!r}: {reason(error)}.")
