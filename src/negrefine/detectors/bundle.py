"""Writing and reading the directory of a saved detector: JSON, JSON lines and safetensors.

The names of data files carry a digest of their content, so a new version is written beside the old
one, and replacing detector.json, which says what belongs to the detector, is the one step that
changes it. A process killed at any moment leaves the old detector or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from negrefine.errors import BundleError
from negrefine.shown_text import json_text

FORMAT = "negrefine-detector"
FORMAT_VERSION = 2
MANIFEST = "detector.json"
_ARRAYS = "features.safetensors"
_WRITTEN_HERE = re.compile(
    r"(detector\.json|[a-z_]+-[0-9a-f]{12}\.(jsonl|safetensors))(\.[0-9]+\.tmp)?"
)

# float32 features, and float64 scores if the detector is calibrated.
Arrays = dict[str, NDArray[Any]]
Tables = dict[str, list[dict[str, Any]]]


def write_bundle(
    path: str | os.PathLike[str], facts: dict[str, Any], arrays: Arrays, tables: Tables
) -> None:
    """Write a directory atomically; a saved detector in it is replaced, other files stay.

    The facts go into detector.json, the arrays into features-DIGEST.safetensors, and each table
    into NAME-DIGEST.jsonl. Raises BundleError if the path holds something else or is unwritable.
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
        "format_version": FORMAT_VERSION,
        "negrefine_version": _own_version(),
        **facts,
        "files": digests,
    }
    manifest["checksum"] = _checksum(manifest)
    text = json_text(manifest, indent=2) + "\n"
    files = {_stored_name(name, digests[name]): data for name, data in contents.items()}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            _replace(target / name, data)
        _replace(target / MANIFEST, text.encode("utf-8"))
        for file in target.iterdir():
            if _WRITTEN_HERE.fullmatch(file.name) and file.name not in {MANIFEST, *files}:
                file.unlink()
    except OSError as error:
        raise _unwritable(target, error) from error


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise BundleError for a path that holds anything but a saved (or partly saved) detector."""
    target = Path(path)
    try:
        names = {file.name for file in target.iterdir()}
        ours = MANIFEST in names and FORMAT.encode() in (target / MANIFEST).read_bytes()
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
    manifest = _read_manifest(directory)
    digests = manifest.get("files")
    if not isinstance(digests, dict):
        raise damaged(directory, f"{MANIFEST} names no files")
    files = {name: _read_checked(directory, name, str(digests[name])) for name in digests}
    tables = {
        name.removesuffix(".jsonl"): [
            json.loads(line) for line in data.decode("utf-8").split("\n") if line
        ]
        for name, data in files.items()
        if name.endswith(".jsonl")
    }
    try:
        return manifest, load(files[_ARRAYS]), tables
    except (KeyError, SafetensorError) as error:
        raise damaged(directory, f"{_ARRAYS} cannot be read") from error


def damaged(directory: Path, what: str) -> BundleError:
    """Return the error for a directory whose contents cannot be trusted."""
    return BundleError(
        f"The saved detector in {str(directory)!r} is damaged ({what}): fit and save it again."
    )


def _read_manifest(directory: Path) -> dict[str, Any]:
    file = directory / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            f"{str(directory)!r} holds no saved detector ({MANIFEST} is missing): "
            "give the directory that save() or 'negrefine fit --out' wrote."
        ) from error
    except (OSError, ValueError) as error:
        raise damaged(directory, f"{MANIFEST} cannot be read") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise damaged(directory, f"{MANIFEST} does not describe a detector")
    if not isinstance(manifest.get("format_version"), int):
        raise damaged(directory, f"{MANIFEST} has no format version")
    if manifest["format_version"] > FORMAT_VERSION:
        raise BundleError(
            f"The detector in {str(directory)!r} was written by negrefine "
            f"{manifest.get('negrefine_version')} in format {manifest['format_version']}, and this "
            f"version reads up to {FORMAT_VERSION}: upgrade negrefine."
        )
    if manifest["format_version"] < FORMAT_VERSION:
        raise BundleError(
            f"The detector in {str(directory)!r} was written in format "
            f"{manifest['format_version']} by an older version of negrefine: fit it again."
        )
    checksum = manifest.pop("checksum", None)
    if checksum != _checksum(manifest):
        raise damaged(directory, f"{MANIFEST} was changed after it was written")
    return manifest


def _read_checked(directory: Path, name: str, digest: str) -> bytes:
    stored = _stored_name(name, digest)
    if Path(stored).name != stored:
        raise damaged(directory, f"{MANIFEST} names a file outside the directory")
    try:
        data = (directory / stored).read_bytes()
    except (OSError, ValueError) as error:
        raise damaged(directory, f"{stored} is missing or unreadable") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise damaged(directory, f"{stored} is truncated or was changed after it was written")
    return data


def _checksum(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _own_version() -> str:
    try:
        return version("negrefine")
    except PackageNotFoundError:
        return "unknown"


def _stored_name(name: str, digest: str) -> str:
    stem, _, suffix = name.rpartition(".")
    return f"{stem}-{digest[:12]}.{suffix}"


def _replace(file: Path, data: bytes) -> None:
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(target: Path, error: OSError) -> BundleError:
    return BundleError(f"The detector cannot be written to {str(target)!r}: {error.strerror}.")
