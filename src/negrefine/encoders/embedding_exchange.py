"""Stored embeddings as one file, so that what one machine has encoded serves others.

The file is safetensors. Its one metadata entry, JSON, lists the spaces; for the i-th of them there
are the tensors "i.vectors", float32 (n, d), "i.texts", the n texts in UTF-8 one after the other in
ascending order, "i.ends", int64 (n,), where each of them ends, and "i.checksums", int64 (n,), those
of the cache. Equal embeddings give equal bytes. A checksum finds damage; it is no signature.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negrefine.constraints import Fields, Text, Whole
from negrefine.encoders.base import FloatArray
from negrefine.encoders.embedding_cache import EmbeddingCache, StoredSpace, embedding_checksum
from negrefine.errors import InputError
from negrefine.files.reading import parse_json, reason
from negrefine.files.regular import open_regular
from negrefine.files.writing import write_atomically

FORMAT = "negrefine-embeddings"
_VERSION = 1
_KEY = "negrefine"
_SPACE = Fields({"space": Text(), "n": Whole(1), "dim": Whole(1)})
# Every space ends in the digest of the prompt templates.
_NAME = re.compile(r"[!-~]+( [!-~]+)* [0-9a-f]{64}")
# Single precision is a thousand times better; a text without any features is zero.
_LENGTH_TOLERANCE = 1e-3
_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Exported:
    """What `export_embeddings` wrote: embeddings, and those it left out for being damaged."""

    n: int
    n_spaces: int
    n_damaged: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the embeddings in a file.

    Attributes:
        new: They were stored.
        known: Their texts were stored already, which was left as it is.
        differing: Those of the known ones whose stored numbers are others.
        refused: No embedding, because numbers are not finite or their length is not one, or of
            another dimension than what is stored of their space.
    """

    new: int
    known: int
    differing: int
    refused: int


@dataclass(frozen=True, eq=False)
class _Part:
    """The content of a file for one space."""

    space: StoredSpace
    texts: list[str]
    vectors: FloatArray


def export_embeddings(cache: EmbeddingCache, spaces: Sequence[StoredSpace], path: Path) -> Exported:
    """Write the embeddings of some spaces to a file, atomically.

    Raises InputError if it cannot be written.
    """
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {}
    listed: list[dict[str, Any]] = []
    for space in spaces:
        texts, vectors = cache.stored(space)
        if not texts:
            continue
        number = len(listed)
        encoded = [text.encode() for text in texts]
        checksums = [_row_checksum(space, *row) for row in zip(texts, vectors, strict=True)]
        tensors |= {
            f"{number}.vectors": vectors,
            f"{number}.texts": np.frombuffer(b"".join(encoded), np.uint8),
            f"{number}.ends": np.cumsum([len(text) for text in encoded], dtype=np.int64),
            f"{number}.checksums": np.array(checksums, dtype=np.int64),
        }
        listed.append({"space": space.name, "n": len(texts), "dim": space.dim})
    content = {"format": FORMAT, "version": _VERSION, "spaces": listed}
    data = save(tensors, {_KEY: json.dumps(content)})
    write_atomically(path, lambda temporary: temporary.write_bytes(data))
    n = sum(each["n"] for each in listed)
    return Exported(n, len(listed), sum(space.n for space in spaces) - n)


def import_embeddings(cache: EmbeddingCache, path: Path) -> Imported:
    """Store the embeddings of a file that are not stored yet; nothing is replaced.

    The whole file is checked before anything is stored.

    Raises InputError for a file that is damaged, of another kind or newer, one that is larger than
    the cache may be, or if nothing can be stored.
    """
    parts = list(_read(path))
    n_bytes = sum(part.vectors.nbytes for part in parts)
    if n_bytes > cache.max_bytes / 2:
        raise InputError(
            f"The embeddings in {str(path)!r} take {n_bytes >> 20:,} MiB, more than half of what "
            f"the cache may have ({cache.max_bytes >> 20:,} MiB), so others would be removed for "
            "them: export one encoder at a time with --encoder."
        )
    dims = {space.name: space.dim for space in cache.spaces()}
    counts = np.zeros(4, dtype=np.int64)
    for part in parts:
        other = dims.get(part.space.name, part.space.dim) != part.space.dim
        for start in range(0, len(part.texts), _ROWS):
            rows = slice(start, start + _ROWS)
            counts += _store(cache, part.space, part.texts[rows], part.vectors[rows], other)
    return Imported(*counts.tolist())


def _store(
    cache: EmbeddingCache, space: StoredSpace, texts: list[str], vectors: FloatArray, other: bool
) -> tuple[int, int, int, int]:
    """Return the counts of `Imported` for some rows."""
    length = np.linalg.norm(vectors.astype(np.float64), axis=1)
    usable = (np.abs(length - 1) < _LENGTH_TOLERANCE) | (length == 0)
    if other:
        usable[:] = False
    known_rows, known = cache.rows(space.name, texts, space.dim)
    known &= usable
    new = np.flatnonzero(usable & ~known)
    if len(new) and not cache.put(space.name, [texts[i] for i in new], vectors[new]):
        raise InputError(
            f"The embeddings cannot be stored in {str(cache.path)!r}: check its disk space and "
            "permissions."
        )
    differing = known & (np.abs(known_rows - vectors).max(axis=1) > _LENGTH_TOLERANCE)
    return len(new), int(known.sum()), int(differing.sum()), int((~usable).sum())


def _read(path: Path) -> Iterator[_Part]:
    """Yield the checked parts of a file."""
    from safetensors import SafetensorError, safe_open

    try:
        with open_regular(path), safe_open(path, framework="numpy") as file:
            for number, listed in enumerate(_listed(file.metadata())):
                names = ("vectors", "texts", "ends", "checksums")
                yield _part(listed, *(file.get_tensor(f"{number}.{name}") for name in names))
    except FileNotFoundError as error:
        raise InputError(
            f"The file {str(path)!r} does not exist: give one that 'negrefine cache export' wrote."
        ) from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"The file {str(path)!r} is damaged or not what 'negrefine cache export' writes "
            f"({reason(error).rstrip('.')}): nothing of it is stored; export it again."
        ) from error


def _listed(metadata: dict[str, str] | None) -> list[dict[str, Any]]:
    content = parse_json((metadata or {}).get(_KEY, "{}"))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError("it does not say that it holds embeddings")
    if content.get("version") != _VERSION:
        raise ValueError(f"it has the format version {content.get('version')!r}, not {_VERSION}")
    spaces = content.get("spaces")
    if not isinstance(spaces, list):
        raise ValueError("it lists no spaces")
    for each in spaces:
        _SPACE("a space", each)
        if not _NAME.fullmatch(each["space"]):
            raise ValueError(f"{each['space'][:80]!r} is no space of embeddings")
    return spaces


def _part(
    listed: dict[str, Any],
    vectors: NDArray[Any],
    texts: NDArray[Any],
    ends: NDArray[Any],
    checksums: NDArray[Any],
) -> _Part:
    """Return the content of one space; ValueError for what was not written like this."""
    space = StoredSpace(listed["space"], listed["dim"], listed["n"], 0)
    kinds = [(each.dtype.str, each.shape) for each in (vectors, ends, checksums)]
    n = space.n
    if kinds != [("<f4", (n, space.dim)), ("<i8", (n,)), ("<i8", (n,))]:
        raise ValueError("a tensor has another shape or type than its space")
    if texts.dtype != np.uint8 or texts.ndim != 1 or ends[-1] != len(texts):
        raise ValueError("texts do not end where they should")
    starts = np.concatenate([[0], ends[:-1]])
    if (ends < starts).any():
        raise ValueError("texts do not end where they should")
    content = texts.tobytes()
    words = [content[a:b].decode() for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    if any(a >= b for a, b in pairwise(words)):
        raise ValueError("texts are not in order")
    rows = zip(words, vectors, checksums.tolist(), strict=True)
    n_wrong = sum(_row_checksum(space, text, vector) != check for text, vector, check in rows)
    if n_wrong:
        raise ValueError(f"{n_wrong} of {n} rows do not fit their checksums")
    return _Part(space, words, vectors)


def _row_checksum(space: StoredSpace, text: str, vector: FloatArray) -> int:
    return embedding_checksum(space.name, text, vector.astype("<f4").tobytes())
