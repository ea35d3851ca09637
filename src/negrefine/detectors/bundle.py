"""Writing and reading the directory of a saved detector: JSON, JSON lines and safetensors."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from negrefine.errors import BundleError

FORMAT = "negrefine-detector"
FORMAT_VERSION = 1
MANIFEST = "detector.json"
_ARRAYS = "features.safetensors"

Arrays = dict[str, NDArray[np.float32]]
Tables = dict[str, list[dict[str, Any]]]


def write_bundle(
    path: str | os.PathLike[str], facts: dict[str, Any], arrays: Arrays, tables: Tables
) -> None:
    """Write a directory atomically; one that holds a saved detector is replaced.

    Args:
        path: The directory.
        facts: What goes into detector.json beside format, version and checksums.
        arrays: Go into features.safetensors.
        tables: Each becomes NAME.jsonl, one JSON object a line.

    Raises:
        BundleError: The path holds something else, or cannot be written.
    """
    target = Path(path)
    if target.exists() and not (target / MANIFEST).is_file():
        empty = target.is_dir() and not any(target.iterdir())
        if not empty:
            raise BundleError(
                f"{str(target)!r} exists and is not a saved detector: choose another path."
            )
    contents = {_ARRAYS: save(arrays)}
    for name, rows in tables.items():
        contents[f"{name}.jsonl"] = _json_lines(rows)
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "negrefine_version": _own_version(),
        **facts,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    }
    manifest["checksum"] = _checksum(manifest)
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    contents[MANIFEST] = text.encode("utf-8")
    _write_directory(target, contents)


def read_bundle(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Arrays, Tables]:
    """Read what `write_bundle` wrote and check that it is whole.

    Returns:
        detector.json, the arrays, and the tables by name.

    Raises:
        BundleError: Nothing there, damaged or changed files, or a newer format.
    """
    directory = Path(path)
    manifest = _read_manifest(directory)
    files = {
        name: _read_checked(directory, name, digest) for name, digest in manifest["files"].items()
    }
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
    checksum = manifest.pop("checksum", None)
    if checksum != _checksum(manifest):
        raise damaged(directory, f"{MANIFEST} was changed after it was written")
    return manifest


def _read_checked(directory: Path, name: str, digest: str) -> bytes:
    if Path(name).name != name:
        raise damaged(directory, f"{MANIFEST} names a file outside the directory")
    try:
        data = (directory / name).read_bytes()
    except OSError as error:
        raise damaged(directory, f"{name} is missing or unreadable") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise damaged(directory, f"{name} is truncated or was changed after it was written")
    return data


def _json_lines(rows: list[dict[str, Any]]) -> bytes:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return "".join(lines).encode("utf-8")


def _checksum(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _own_version() -> str:
    try:
        return version("negrefine")
    except PackageNotFoundError:
        return "unknown"


def _write_directory(target: Path, contents: dict[str, bytes]) -> None:
    """Write beside the target and move into place, so that a reader never sees half of it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise BundleError(
            f"The detector cannot be written to {str(target)!r}: {error.strerror}."
        ) from error
    try:
        fresh = staging / "new"
        fresh.mkdir()
        for name, data in contents.items():
            with (fresh / name).open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        if target.exists():
            target.rename(staging / "old")
        fresh.rename(target)
    except OSError as error:
        raise BundleError(
            f"The detector cannot be written to {str(target)!r}: {error.strerror}."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
