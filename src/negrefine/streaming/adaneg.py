"""AdaNeg: prototypes of labels from confident images of the stream (NeurIPS 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from negrefine.constraints import Number, Whole
from negrefine.detectors.frozen import FrozenAdaNeg, checked_memory
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.parameters import detector, parameter, redeclared
from negrefine.detectors.proposed import refuse_proposed
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError
from negrefine.labels.negatives import Negatives
from negrefine.streaming.base import ROWS, StreamDetector, check_state
from negrefine.streaming.given import detector_of_features
from negrefine.streaming.state import Arrays

if TYPE_CHECKING:
    from torch import Tensor

# Images of one label with their entropies, in the order in which they were stored.
_Entry = tuple[tuple[FloatArray, ...], tuple[float, ...]]
_Memory = dict[int, _Entry]
_SHARE = Number("lie in [0, 1]", low=0, high=1, closed="both")


@detector
class AdaNeg(StreamDetector):
    """S' + weight S: NegLabel's score S, and S' on prototypes that learn from confident images.

    A batch is stored before any of its images is scored: images with S above
    threshold + gap (1 - threshold) at their nearest class, those with S below
    threshold - gap threshold at their nearest negative label. Of each label the `memory` - 1 images
    of the lowest entropy stay. Published with batches of 256; any size is defined, and a larger one
    only means that more images are stored before they are scored.

    The released code truncates the paper's beta of 5.5 to 5.

    Example:
        >>> stream = negrefine.AdaNeg(refine, weight=0.1)
        >>> batch = encoder.encode_images(animals + food)
        >>> first, again = stream.update_and_score(batch), stream.update_and_score(batch)
        >>> bool((first == again).all())
        False
    """

    method = "adaneg"
    title = "AdaNeg"
    paper = "NeurIPS 2024, arXiv 2410.20149"
    parts = ("adapted", "neglabel")

    n_groups: int = redeclared(FrozenAdaNeg, "n_groups", 5)
    group_seed: int = redeclared(FrozenAdaNeg, "group_seed", 0)
    memory: int = parameter(
        10, Whole(1), "One more than the images a label keeps: its text takes the first place."
    )
    weight: float = redeclared(FrozenAdaNeg, "weight", 0.1)
    threshold: float = parameter(0.5, _SHARE, "Where S is undecided.")
    gap: float = parameter(0.5, _SHARE, "How far from there an image must be to be stored.")
    prototypes: str = redeclared(FrozenAdaNeg, "prototypes", "task")
    beta: float = redeclared(FrozenAdaNeg, "beta", 5)

    @classmethod
    def from_features(
        cls,
        class_features: ArrayLike,
        negative_features: ArrayLike,
        *,
        logit_scale: float,
        **parameters: Any,
    ) -> Self:
        """Return the stream on features of classes (C, d) and negative labels (M, d).

        `parameters` are those of the class.
        """
        base = detector_of_features(class_features, negative_features, logit_scale)
        return cls(base, **parameters)

    def _prepare(self) -> None:
        refuse_proposed(self.base.negatives_, "AdaNeg")
        negatives = self.base.negatives_
        if negatives is None or not negatives.kept:
            raise InputError(
                f"AdaNeg needs negative labels, and {self.base.title} has none: give NegLabel, CSP "
                "or NegRefine."
            )
        self._negatives: Negatives = negatives
        self._texts = np.concatenate([self.base.class_features_, negatives.kept_features])
        names = ("n_groups", "group_seed", "weight", "prototypes", "beta")
        self._scoring = {name: getattr(self, name) for name in names}
        self._scoring["logit_scale"] = self.base.logit_scale_

    def _reset(self) -> None:
        self._memory: _Memory = {}

    def _step(self, features: FloatArray) -> dict[str, NDArray[np.float64]]:
        blocks = list(self._blocks(features))
        plain = self._frozen({})
        vanilla = [plain.compute_part("neglabel", block).numpy() for block in blocks]
        memory = self._learnt(blocks, vanilla)
        frozen = self._frozen(memory)
        if len(features) > ROWS:
            # The cosines of one block are kept, those of many would not fit.
            blocks = list(self._blocks(features))
        adapted = [frozen.compute_part("adapted", block).numpy() for block in blocks]
        self._memory = memory
        return {"adapted": np.concatenate(adapted), "neglabel": np.concatenate(vanilla)}

    def _learnt(self, blocks: list[ImageBlock], scores: list[NDArray[np.float64]]) -> _Memory:
        """Return the memory after a batch: first its in-distribution images, then the others."""
        memory = dict(self._memory)
        high = self.threshold + self.gap * (1 - self.threshold)
        low = self.threshold - self.gap * self.threshold
        n_classes = len(self.class_names_)
        outside: list[tuple[int, FloatArray, float]] = []
        for block, values in zip(blocks, scores, strict=True):
            for label, row, entropy in self._chosen(block, values > high, block.classes):
                self._put(memory, label, row, entropy)
            found = self._chosen(block, values < low, block.negatives)
            outside += [(n_classes + label, row, entropy) for label, row, entropy in found]
        for label, row, entropy in outside:
            self._put(memory, label, row, entropy)
        return memory

    def _chosen(
        self, block: ImageBlock, chosen: NDArray[np.bool_], cosines: Tensor
    ) -> list[tuple[int, FloatArray, float]]:
        """Return label, feature and entropy of the chosen images among some labels."""
        places = np.flatnonzero(chosen)
        logits = cosines[places] * self.base.logit_scale_
        p = logits.softmax(dim=-1)
        # Below 0 by rounding, where the text's entropy of 0 must stay the lowest.
        entropies = -(p * (p + 1e-8).log()).sum(dim=-1)
        # Each alone, so that one that stays does not hold the others.
        rows = [row.copy() for row in block.features[places].float().numpy()]
        labels = logits.argmax(dim=-1).tolist()
        return list(zip(labels, rows, entropies.clamp_min(0).tolist(), strict=True))

    def _put(self, memory: _Memory, label: int, row: FloatArray, entropy: float) -> None:
        rows, entropies = memory.get(label, ((), ()))
        place = len(rows)
        if place >= self.memory - 1:
            if not entropies or entropy >= max(entropies):
                return
            # Of equal entropies the last.
            place -= 1 + entropies[::-1].index(max(entropies))
        memory[label] = (
            (*rows[:place], row, *rows[place + 1 :]),
            (*entropies[:place], entropy, *entropies[place + 1 :]),
        )

    def _flat(self, memory: _Memory) -> tuple[NDArray[np.int64], FloatArray, NDArray[np.float64]]:
        """Return label, feature and entropy of every stored image, by label."""
        labels = sorted(memory)
        owners = np.repeat(labels, [len(memory[k][0]) for k in labels]).astype(np.int64)
        rows = [row for k in labels for row in memory[k][0]]
        entropies = [entropy for k in labels for entropy in memory[k][1]]
        width = self._texts.shape[1]
        images = np.array(rows, dtype=np.float32).reshape(-1, width)
        return owners, images, np.array(entropies, dtype=np.float64)

    def _frozen(self, memory: _Memory) -> FrozenAdaNeg:
        owners, images, _ = self._flat(memory)
        made = FrozenAdaNeg.on_classes_of(self.base, **self._scoring)
        return made.hold(self._negatives, owners, images, self._texts)

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return S' + weight S."""
        combined: NDArray[np.float64] = parts["adapted"] + self.weight * parts["neglabel"]
        return combined

    def _classify(self, images: ImageBlock) -> NDArray[np.int64]:
        import torch

        scale, n_classes = self.base.logit_scale_, len(self.class_names_)
        texts = torch.cat([images.classes, images.negatives], dim=1) * scale
        adapted = self._frozen(self._memory).adapted(images) * scale
        mixed = texts.softmax(dim=1) + self.weight * adapted.softmax(dim=1)
        classes: NDArray[np.int64] = mixed[:, :n_classes].argmax(dim=1).numpy()
        return classes

    def freeze(self) -> FrozenAdaNeg:
        """Return S' + weight S with the memory as it is; see `StreamDetector.freeze`."""
        return self._frozen(self._memory)

    def _state(self) -> Arrays:
        owners, images, entropies = self._flat(self._memory)
        return {"memory_labels": owners, "memory_features": images, "entropies": entropies}

    def _load_state(self, arrays: dict[str, Any]) -> None:
        shapes = {
            "memory_labels": (np.int64, (None,)),
            "memory_features": (np.float32, (None, self._texts.shape[1])),
            "entropies": (np.float64, (len(arrays.get("memory_labels", ())),)),
        }
        check_state(arrays, shapes)
        owners, images = checked_memory(arrays, self._texts)
        _, counts = np.unique(owners, return_counts=True)
        if (counts > self.memory - 1).any():
            raise InputError(f"memory_labels has a label with more than {self.memory - 1} images.")
        memory: _Memory = {}
        for label, row, entropy in zip(
            owners.tolist(), images, arrays["entropies"].tolist(), strict=True
        ):
            rows, entropies = memory.get(label, ((), ()))
            memory[label] = ((*rows, row), (*entropies, entropy))
        self._memory = memory
