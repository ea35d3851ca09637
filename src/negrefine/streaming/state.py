"""The state of a stream as one safetensors file, from which it goes on as if there were no stop."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from negrefine.errors import InputError
from negrefine.files.reading import parse_json, read_bytes, reason
from negrefine.files.writing import check_replaceable, write_atomically

Arrays = dict[str, NDArray[Any]]

FORMAT = "negrefine-stream"
FORMAT_VERSION = 1
_KEY = "negrefine"
_BYTES = 4 << 30


def write_state(path: str | os.PathLike[str], identity: str, method: str, arrays: Arrays) -> None:
    """Write a state; see `StreamDetector.save_state`."""
    target = Path(path)
    check_replaceable(target, FORMAT)
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "method": method,
        "stream": identity,
        "checksum": _checksum(arrays),
    }
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # One key, because the order of several is not fixed.
    content = save(whole, {_KEY: json.dumps(facts, sort_keys=True)})
    write_atomically(target, lambda temporary: temporary.write_bytes(content))


def read_state(path: str | os.PathLike[str], identity: str, method: str) -> Arrays:
    """Read a state; see `StreamDetector.read_state`."""
    shown = f"The state of the stream in {str(path)!r}"
    try:
        content = read_bytes(path, _BYTES)
    except (OSError, ValueError) as error:
        raise InputError(f"{shown} cannot be read: {reason(error)}.") from error
    try:
        header = parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = parse_json(header["__metadata__"][_KEY])
        if facts["format"] != FORMAT:
            raise KeyError("format")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is not the state of a stream: give another.") from error
    if facts.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{shown} was written by another version of negrefine: upgrade, or begin anew."
        )
    if facts.get("method") != method or facts.get("stream") != identity:
        raise InputError(
            f"{shown} is of another stream: give the method, labels and parameters it was saved "
            "with."
        )
    try:
        arrays: Arrays = load(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{shown} is damaged ({error}): begin anew.") from error
    if _checksum(arrays) != facts.get("checksum"):
        raise InputError(f"{shown} is damaged: begin anew.")
    return arrays


def _checksum(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()
