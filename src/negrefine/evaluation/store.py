"""Features and score components of an image set on disk, in blocks that a later run reuses."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from negrefine.detectors import Detector
from negrefine.encoders.base import Encoder, FloatArray
from negrefine.encoders.batches import iter_encoded_images
from negrefine.encoders.images import Images, ImageSource, read_image
from negrefine.errors import ImageError
from negrefine.evaluation.results import set_directory
from negrefine.files.identity import file_stamp
from negrefine.files.reading import parse_json
from negrefine.files.regular import read_regular
from negrefine.files.writing import write_atomically
from negrefine.progress import progress_bar
from negrefine.shown_text import restored, storable
from negrefine.sources.ahead import read_images
from negrefine.sources.base import NamedImage, Shard, error_text
from negrefine.sources.bounded import content_digest

Parts = dict[str, NDArray[np.float64]]

# Images in a block: a killed run repeats the work on this many at most.
_BLOCK = 1024


@dataclass(frozen=True)
class Block:
    """Features or components of scores of consecutive images: a row for each readable image.

    Features have `errors`, for each image why it could not be read, None for readable ones. Those
    of shards also have `images`, pairs of name and content (SHA-256 in hex, "" if unreadable), and
    say whether they are the `last` of their shard.
    """

    arrays: Mapping[str, NDArray[Any]]
    errors: Sequence[str | None] = ()
    images: Sequence[Sequence[str]] = ()
    last: bool = False

    @classmethod
    def read(cls, file: Path, key: str, fits: Callable[[Block], bool]) -> Block | None:
        """Return what was written for this key, or None; a block that does not fit is damaged."""
        try:
            # safe_open, which gives the metadata, opens no file whose name is not UTF-8.
            content = read_regular(file)
            header = parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")])
            metadata = header["__metadata__"]
            if metadata["key"] != key:
                return None
            shard = parse_json(metadata.get("shard", '{"images": [], "last": false}'))
            block = cls(load(content), parse_json(metadata["errors"]), **shard)
            if fits(block):
                return block
        except FileNotFoundError:
            return None
        # The kinds of errors of damaged files, of JSON that is too deep and of types unknown here.
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError):
            pass
        warnings.warn(f"{str(file)!r} is damaged: its content is computed again.", stacklevel=3)
        return None

    def write(self, file: Path, key: str) -> None:
        """Write the block; `key` says what decided its content."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        metadata = {"key": key, "errors": json.dumps(self.errors)}
        if self.images or self.last:
            metadata["shard"] = json.dumps({"images": self.images, "last": self.last})
        content = save(arrays, metadata)
        write_atomically(file, lambda temporary: temporary.write_bytes(content))

    @property
    def features(self) -> FloatArray:
        """Image features, float32 (n_readable, d)."""
        return self.arrays["features"]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the features."""
        return hashlib.sha256(self.features.tobytes()).hexdigest()


@dataclass(frozen=True)
class Scorer:
    """Components of the score of a fitted detector, all or some of them."""

    detector: Detector
    part_names: tuple[str, ...]

    @cached_property
    def identity(self) -> str:
        """SHA-256 (hex) over everything but the features that decides the components."""
        # The threshold does not, but the code of a class that shares its method's name does.
        cls = type(self.detector)
        without_threshold = self.detector.with_params().identity()
        return _digest([cls.__module__, cls.__qualname__, without_threshold, *self.part_names])

    @property
    def stored_names(self) -> tuple[str, ...]:
        """What is stored of an image: its components, and whatever else decides its score."""
        return self.part_names

    def score(self, features: FloatArray, patches: FloatArray | None = None) -> Parts:
        """Return the components, each float64 (n,), of features (n, d)."""
        return self.detector.score_feature_parts(features, patches, only=self.part_names)

    def joined(self, batches: Sequence[Mapping[str, NDArray[Any]]]) -> Parts:
        """Return the components of consecutive images as one."""
        return {n: np.concatenate([each[n] for each in batches]) for n in self.stored_names}


@dataclass(frozen=True)
class SetStore:
    """The files of one image set: `root`/features/`folder` and `root`/parts/`folder`.

    Patch features are too large to keep. The components of scores on them are computed while the
    images are encoded, and kept. `caption` is the name of the set for progress bars.
    """

    root: Path
    folder: str
    caption: str
    progress: bool

    def encode(
        self,
        encoder: Encoder,
        paths: Sequence[Path],
        patch_scorers: Sequence[Scorer],
        batch_size: int,
    ) -> list[Block]:
        """Encode images, each once, or take what an earlier run stored for the same files.

        The components of `patch_scorers`, which need patch features, are stored for `score`.
        """
        model = f"{encoder.fingerprint} {getattr(encoder, 'dtype', '')}"
        blocks: list[Block] = []
        title = f"Encoding {self.caption}"
        with progress_bar(title, len(paths), enabled=self.progress) as advance:
            for number, start in enumerate(range(0, len(paths), _BLOCK)):
                files = paths[start : start + _BLOCK]
                key = _digest([model, *map(file_stamp, files)])
                fits = partial(_holds_features, n_images=len(files))
                stored = Block.read(self._features_file(number), key, fits)
                if stored is not None and _any_readable(files, stored.errors):
                    stored = None
                encode = partial(_encode, encoder, files, batch_size)
                blocks.append(self._completed(number, key, stored, patch_scorers, encode))
                advance(len(files))
        return blocks

    def encode_shards(
        self,
        encoder: Encoder,
        shards: Sequence[Shard],
        patch_scorers: Sequence[Scorer],
        batch_size: int,
    ) -> list[Block]:
        """Do what `encode` does with the images of shards, which are read from start to end.

        Blocks end with their shard. What an earlier run stored is taken for the same shards, and
        blocks with errors are computed again.
        """
        model = f"{encoder.fingerprint} {getattr(encoder, 'dtype', '')}"
        blocks: list[Block] = []
        title = f"Encoding {self.caption}"
        with progress_bar(title, None, enabled=self.progress) as advance:
            for shard in shards:
                identity, position, last = shard.identity(), 0, False
                reading = _ShardReading(shard)
                while not last:
                    number = len(blocks)
                    key = _digest([model, "shard", identity, str(position)])
                    # Nothing tells whether the content of a shard without identity is the same.
                    stored = None
                    if identity:
                        stored = Block.read(self._features_file(number), key, _holds_shard)
                    if stored is not None and any(stored.errors):
                        stored = None
                    encode = partial(_encode_shard, encoder, reading, position, batch_size)
                    block = self._completed(number, key, stored, patch_scorers, encode)
                    position, last = position + len(block.images), block.last
                    blocks.append(block)
                    advance(len(block.images))
        return blocks

    def _completed(
        self,
        number: int,
        key: str,
        stored: Block | None,
        scorers: Sequence[Scorer],
        encode: Callable[[Sequence[Scorer]], tuple[Block, list[Parts]]],
    ) -> Block:
        """Return a block of features whose components are stored; encode what is missing."""
        missing = [
            scorer
            for scorer in scorers
            if stored is None or self.read_parts(number, scorer, stored) is None
        ]
        if stored is not None and not missing:
            return stored
        block, scored = encode(missing)
        if stored is not None and stored.errors == block.errors:
            block = stored
        else:
            block.write(self._features_file(number), key)
        for scorer, parts in zip(missing, scored, strict=True):
            Block(parts).write(*self.parts_file(number, scorer, block))
        return block

    def _features_file(self, number: int) -> Path:
        return self.root / "features" / self.folder / f"{number:05}.safetensors"

    def score(self, scorer: Scorer, blocks: Sequence[Block], row: str) -> Parts:
        """Return components, each float64 (n_readable,), new or stored for the same features.

        `blocks` are those of `encode`; the progress bar names the detector `row`.
        """
        caption, total = f"Scoring {self.caption} ({row})", sum(len(b.features) for b in blocks)
        scored = []
        with progress_bar(caption, total, enabled=self.progress) as advance:
            for number, block in enumerate(blocks):
                parts = self.read_parts(number, scorer, block)
                if parts is None:
                    parts = Block(scorer.score(block.features))
                    parts.write(*self.parts_file(number, scorer, block))
                scored.append(parts.arrays)
                advance(len(block.features))
        return scorer.joined(scored)

    def read_parts(self, number: int, scorer: Scorer, block: Block) -> Block | None:
        """Return the stored components of a block of features, None without any."""
        fits = partial(_holds_parts, scorer=scorer, n_readable=len(block.features))
        return Block.read(*self.parts_file(number, scorer, block), fits)

    def parts_file(self, number: int, scorer: Scorer, block: Block) -> tuple[Path, str]:
        """Return where the components of a block of features are, and their key."""
        name = f"{number:05}.{scorer.identity[:16]}.safetensors"
        return self.root / "parts" / self.folder / name, _digest([scorer.identity, block.digest])


def _holds_features(block: Block, n_images: int) -> bool:
    errors, ((name, features),) = block.errors, block.arrays.items()
    return (
        name == "features"
        and features.dtype == np.float32
        and features.ndim == 2
        and isinstance(errors, list)
        and len(errors) == n_images
        and all(error is None or isinstance(error, str) for error in errors)
        and len(features) == errors.count(None)
        and bool(np.isfinite(features).all())
    )


def _holds_shard(block: Block) -> bool:
    return _holds_features(block, len(block.images)) and all(
        len(each) == 2 and all(isinstance(text, str) for text in each) for each in block.images
    )


def _holds_parts(block: Block, scorer: Scorer, n_readable: int) -> bool:
    # Of an image that was not looked at, these components are NaN.
    partial_names = scorer.detector.image_parts
    return set(block.arrays) == set(scorer.stored_names) and all(
        part.dtype == np.float64
        and part.shape == (n_readable,)
        and bool((np.isfinite(part) | (np.isnan(part) & (name in partial_names))).all())
        for name, part in block.arrays.items()
    )


def _encode(
    encoder: Encoder, paths: Sequence[Path], batch_size: int, scorers: Sequence[Scorer]
) -> tuple[Block, list[Parts]]:
    """Return the features of images and, of each scorer, its components."""
    features: list[FloatArray] = []
    errors: list[str | None] = []
    scored: list[list[Parts]] = []
    for batch in iter_encoded_images(encoder, paths, batch_size, patches=bool(scorers)):
        features.append(batch.features)
        errors += [None if error is None else str(error) for error in batch.errors]
        scored.append([scorer.score(batch.features, batch.patches) for scorer in scorers])
    parts = [scorer.joined([batch[i] for batch in scored]) for i, scorer in enumerate(scorers)]
    return Block({"features": np.concatenate(features)}, errors), parts


class _ShardReading:
    """The images of a shard, read once from the first position that is asked for."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._images: Iterator[NamedImage] | None = None
        self._position = 0

    def block(self, position: int) -> Iterator[NamedImage]:
        """Yield the images from a position on, `_BLOCK` at most; positions must rise."""
        if self._images is None:
            self._images, self._position = read_images(self._shard, position), position
        # Another run stored what lies between after this one had begun to read.
        for named in islice(self._images, position + _BLOCK - self._position):
            self._position += 1
            if self._position > position:
                yield named


def _encode_shard(
    encoder: Encoder,
    reading: _ShardReading,
    position: int,
    batch_size: int,
    scorers: Sequence[Scorer],
) -> tuple[Block, list[Parts]]:
    """Return what `_encode` does for the images of a shard from a position on."""
    images: list[tuple[str, str]] = []
    failed: dict[int, str] = {}
    places: list[int] = []

    def readable() -> Iterator[ImageSource]:
        for named in reading.block(position):
            place = len(images)
            if isinstance(named.image, ImageError):
                images.append((storable(named.name), ""))
                failed[place] = error_text(named.name, named.image)
                continue
            images.append((storable(named.name), content_digest(named.image).hex()))
            places.append(place)
            yield named.image

    features: list[FloatArray] = []
    scored: list[list[Parts]] = []
    n = 0
    for batch in iter_encoded_images(
        encoder,
        cast(Images, readable()),
        batch_size,
        patches=bool(scorers),
    ):
        features.append(batch.features)
        for error in batch.errors:
            if error is not None:
                failed[places[n]] = error_text(restored(images[places[n]][0]), error)
            n += 1
        scored.append([scorer.score(batch.features, batch.patches) for scorer in scorers])
    errors = [failed.get(place) for place in range(len(images))]
    parts = [scorer.joined([batch[i] for batch in scored]) for i, scorer in enumerate(scorers)]
    # A shard of a whole number of blocks has an empty one at its end.
    last = len(images) < _BLOCK
    return Block({"features": np.concatenate(features)}, errors, images, last), parts


def _any_readable(paths: Sequence[Path], errors: Sequence[str | None]) -> bool:
    """Whether an image with an error can be read by now, as after a network fault."""
    for path, error in zip(paths, errors, strict=True):
        if error is not None:
            with suppress(ImageError):
                read_image(path)
                return True
    return False


def _digest(texts: Sequence[str]) -> str:
    # A file name may hold any character: JSON tells where each text ends.
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def stored_features(root: Path, number: int, name: str) -> FloatArray:
    """Return the features, float32 (n_readable, d), of an image set of a finished evaluation.

    `root` is the folder of the evaluation; `number` and `name` are the set's: 0 and "ID" for the
    in-distribution one, then the OOD sets in their order. OSError if they are not there.
    """
    files = sorted((root / "features" / set_directory(number, name)).glob("*.safetensors"))
    return np.concatenate([load(read_regular(file))["features"] for file in files])
