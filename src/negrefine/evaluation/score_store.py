"""Scores that take long, kept block by block, so that a killed run scores nothing twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from negrefine.encoders.base import FloatArray
from negrefine.files import write_atomically
from negrefine.progress import progress_bar

Parts = dict[str, NDArray[np.float64]]

# Images in a block: what a killed run may have to score again.
_BLOCK = 1024


def store_scores(
    directory: Path,
    name: str,
    identity: str,
    features: FloatArray,
    score: Callable[[FloatArray], Mapping[str, NDArray[np.float64]]],
    *,
    description: str,
    progress: bool = False,
) -> Parts:
    """Score features, or take what an earlier run stored for the same features.

    Args:
        directory: Of this image set.
        name: Tells apart what is scored in different ways.
        identity: Of all that decides the scores but the features, as `Detector.identity` gives it.
        features: (n, d), n at least 1.
        score: Rows of features to arrays with an entry for each row.
        description: Caption of the progress bar.
        progress: Draw a progress bar on a terminal.

    Returns:
        What `score` returns, for all rows.
    """
    blocks: list[Parts] = []
    with progress_bar(description, len(features), enabled=progress) as advance:
        for start in range(0, len(features), _BLOCK):
            some = np.ascontiguousarray(features[start : start + _BLOCK])
            target = directory / f"{start // _BLOCK:05}.{name}.safetensors"
            key = hashlib.sha256(identity.encode() + some.tobytes()).hexdigest()
            block = _read(target, key)
            if block is None:
                block = {part: np.ascontiguousarray(v) for part, v in score(some).items()}
                _write(target, block, key)
            blocks.append(block)
            advance(len(some))
    return {part: np.concatenate([block[part] for block in blocks]) for part in blocks[0]}


def _write(target: Path, block: Parts, key: str) -> None:
    # The file format sorts names; a reader of tables wants the order of the scores.
    metadata = {"key": key, "order": "\n".join(block)}
    write_atomically(target, lambda temporary: save_file(block, temporary, metadata))


def _read(target: Path, key: str) -> Parts | None:
    try:
        with safe_open(target, framework="np") as stream:
            metadata = stream.metadata() or {}
            if metadata.get("key") != key:
                return None
            return {part: stream.get_tensor(part) for part in metadata["order"].split("\n")}
    except (OSError, SafetensorError, KeyError):
        return None
