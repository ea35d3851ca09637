"""Batches of rows with an image each, scored: for engines that call a function on every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa

from negrefine.adapters.images_from import tensor_as_array
from negrefine.detectors import Detector, load_detector
from negrefine.encoders.image_sources import ImageSource
from negrefine.errors import ImageError, InputError
from negrefine.evaluation.score_parts import ScoredBy
from negrefine.evaluation.source_scores import iter_scored
from negrefine.sources.base import NamedImage


class Scorer:
    """Adds the columns of `negrefine score` to batches of rows; the detector is loaded once.

    For Ray Data (`Dataset.map_batches`, where each actor makes one), for Spark (`mapInPandas`), and
    for the batches of a `torch.utils.data.DataLoader`:

        ray.data.read_parquet("images/").map_batches(
            Scorer,
            fn_constructor_args=("detector/",),
            fn_constructor_kwargs={"image": "bytes", "name": "key", "threads": 1},
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=8),
            num_cpus=1,
        )

    A batch is a `pyarrow.Table`, a `pandas.DataFrame`, or a mapping of columns, and so is what is
    returned: its columns without the one of the images, then those of `negrefine score`. An image
    that cannot be read has a row with an error and no score.

    Args:
        detector: The directory of a saved detector, which every process that scores can read.
        image: The column of the images: encoded bytes, records {"bytes", "path"}, paths, Pillow
            images, arrays (h, w, 3) or tensors (3, h, w), as for `images_from`.
        name: The column of what rows are called in `path`; None: what is known of the image, its
            path, or "" without one.
        encoder: As for `load_detector`, like `device` and `dtype`.
        threads: Threads of torch in this process; None leaves them as they are. With as many actors
            as cores it should be 1.
        batch_size: Images to encode at a time.
        identity: `Detector.identity` of the detector that must be in the directory; None takes any.

    Attributes:
        detector: The loaded detector.
        schema: The Arrow schema of the columns that are added.

    Raises:
        BundleError: There is no detector, or one that cannot be read.
        InputError: It is another one than `identity` says.
    """

    def __init__(
        self,
        detector: str | os.PathLike[str],
        *,
        image: str = "image",
        name: str | None = None,
        encoder: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        threads: int | None = None,
        batch_size: int = 64,
        identity: str | None = None,
    ) -> None:
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        self.detector: Detector = load_detector(detector, encoder, device=device, dtype=dtype)
        self._by = ScoredBy.of(self.detector)
        if identity is not None and self._by.detector != identity:
            raise InputError(
                f"The detector in {os.fspath(detector)!r} is another one on this machine, or was "
                "replaced: give a directory that all machines share."
            )
        self._image, self._name, self._batch_size = image, name, batch_size

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the columns that are added."""
        return self._by.schema

    def __call__(self, batch: Any) -> Any:
        """Score a batch. InputError without the columns, or with one that scores have, too."""
        if isinstance(batch, pa.Table):
            scored = self._score({name: batch[name].to_pylist() for name in self._needed(batch)})
            batch = batch.drop_columns(self._dropped())
            for field, column in zip(scored.schema, scored.columns, strict=True):
                batch = batch.append_column(field, column)
            return batch
        scored = self._score({name: list(batch[name]) for name in self._needed(batch)})
        added = {name: scored[name].to_numpy(zero_copy_only=False) for name in scored.column_names}
        if isinstance(batch, Mapping):
            return {name: batch[name] for name in batch if name not in self._dropped()} | added
        return batch.drop(columns=self._dropped()).assign(**added)

    def _dropped(self) -> list[str]:
        """Return the columns that are not in the result, or are there anew."""
        return list({self._image, "path"} if self._name == "path" else {self._image})

    def _needed(self, batch: Any) -> list[str]:
        columns = list(getattr(batch, "column_names", batch))
        needed = [self._image] if self._name is None else [self._image, self._name]
        for name in needed:
            if name not in columns:
                raise InputError(
                    f"A batch has no column {name!r}, only {', '.join(map(repr, columns))[:500]}: "
                    "name the columns of images and names."
                )
        for name in self.schema.names:
            if name in columns and name not in self._dropped():
                raise InputError(
                    f"A batch has a column {name!r}, and so have the scores: rename it first."
                )
        return needed

    def _score(self, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
        images = columns[self._image]
        names = columns[self._name] if self._name is not None else [None] * len(images)
        named = tuple(_named(*pair) for pair in zip(images, names, strict=True))
        scored = iter_scored(self.detector, [_Batch(named)], batch_size=self._batch_size)
        return self._by.table(list(scored))


@dataclass(frozen=True)
class _Batch:
    """The images of a batch as a shard."""

    images: tuple[NamedImage, ...]

    @property
    def name(self) -> str:
        """Always the same."""
        return "a batch"

    def identity(self) -> str:
        """Return "": nothing is kept of its rows."""
        return ""

    def __iter__(self) -> Iterator[NamedImage]:
        """Name the images in order."""
        return iter(self.images)


def _named(image: Any, name: Any) -> NamedImage:
    known = ""
    if isinstance(image, Mapping):
        known, image = str(image.get("path") or ""), image.get("bytes") or image.get("path")
    elif isinstance(image, (str, os.PathLike)):
        known = os.fspath(image)
    shown = known if name is None else str(name)
    if image is None:
        return NamedImage(shown, ImageError(f"{shown or 'a row'}: has no image; leave it out."))
    if hasattr(image, "detach"):
        image = tensor_as_array(image, shown or "An image")
    elif isinstance(image, np.generic):
        image = image.item()
    return NamedImage(shown, cast(ImageSource, image))
