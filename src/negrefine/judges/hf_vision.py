"""A vision judge in this process: a vision-language model through transformers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from negrefine.errors import InputError
from negrefine.judges.base import Answer, AnswerBatch, Query, Usage
from negrefine.judges.causal_lm import model_version, pick_dtype
from negrefine.judges.chat_reply import LEAST_MASS
from negrefine.judges.language_model import LanguageModelJudge
from negrefine.judges.prompts import judge_identity
from negrefine.judges.store import AnswerStore
from negrefine.judges.vision import (
    VISION_PROMPTS,
    QuestionsFailedError,
    VisionPrompts,
    answer_of,
    margins_by,
    undecided_by,
)
from negrefine.judges.vision_lm import VISION_LM, load_vision_lm
from negrefine.pretrained.loading import pick_device

if TYPE_CHECKING:
    from PIL.Image import Image

    from negrefine.judges.vision_model import VisionModel


@dataclass(eq=False)
class HFVision:
    """Asks a vision-language model whether an image shows a thing.

    Nothing is generated: P(yes) and P(no) of the reply's first token are summed over their
    spellings. A question is undecided if the model was about to write something else: P(yes) and
    P(no) together are below `least_mass`.

    Any model that `transformers` loads as `AutoModelForImageTextToText` will do, if Pillow can
    prepare its images. It is loaded for the first question that is not stored; the store keeps each
    answer by the pixels of the image, the question, and the model's files.

    Args:
        model: Directory of a vision-language model in safetensors, or a hub id.
        device: "auto" (a GPU if there is one, otherwise the CPU) or a torch device.
        dtype: "float32", "float16", "bfloat16" or "auto": float32 on the CPU, the checkpoint's own
            on a GPU.
        revision: Branch, tag or commit on the hub.
        batch_size: Images to read at a time; it does not change the answers. It is halved
            permanently whenever memory runs out.
        share_images: Read what the questions about an image have in common once, if the model
            gives the same answers then.
        least_mass: The smallest P(yes) + P(no) of an answer, 0 to 1.
        prompts: The wording of the question.
        store: Where answers are kept: an AnswerStore, a file, "default" for the one in
            `cache_directory()`, or None to keep none.

    Attributes:
        usage: Questions and tokens so far; what several questions share counts once.

    Raises:
        InputError: A setting is out of range.

    Example:
        >>> from PIL import Image
        >>> judge = negrefine.HFVision("smolvlm/", least_mass=0.0, store=None)
        >>> judge.yes_margins([Image.open("cat.png").convert("RGB")], [["cat", "leash"]]).shape
        (1, 2)
    """

    model: str | os.PathLike[str]
    _: KW_ONLY
    device: str = "auto"
    dtype: str = "auto"
    revision: str | None = None
    batch_size: int = 8
    share_images: bool = True
    least_mass: float = LEAST_MASS
    prompts: VisionPrompts = VISION_PROMPTS
    store: AnswerStore | str | os.PathLike[str] | None = "default"

    def __post_init__(self) -> None:
        """Check the settings; the model is loaded later."""
        if self.batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {self.batch_size!r}.")
        if not 0 <= self.least_mass <= 1:
            raise InputError(f"least_mass must be between 0 and 1, not {self.least_mass!r}.")
        self.model = os.fspath(self.model)
        self.name = f"hf:{self.model}"
        self._judge = _Asking(self, store=self.store)

    @cached_property
    def identity(self) -> str:
        """Everything that determines the answers: model, its version, dtype and wording.

        The first call reads every file of a local directory, or asks the hub for the commit unless
        `revision` is one. InputError if the model cannot be found.
        """
        name, version = model_version(str(self.model), self.revision, VISION_LM)
        return judge_identity(
            self.prompts,
            judge="hf-vision",
            model=name,
            revision=version,
            dtype=pick_dtype(self.dtype, pick_device(self.device)),
            least_mass=f"{self.least_mass:g}",
        )

    @property
    def usage(self) -> Usage:
        """Questions and tokens so far."""
        return self._judge.usage

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return "lm" in vars(self._judge)

    def yes_margins(
        self, images: Sequence[Image], names: Sequence[Sequence[str]]
    ) -> NDArray[np.float64]:
        """Return log P(yes) - log P(no), float64 (n, m); see `VisionJudge`.

        Raises InputError if the model or the store cannot be found, loaded or used.
        """
        return margins_by(self._judge, self._judge.pictures, images, names)


@dataclass(repr=False, eq=False)
class _Asking(LanguageModelJudge):
    """Puts queries whose word is the key of an image in `pictures` to the model."""

    settings: HFVision
    pictures: dict[str, Image] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        return self.settings.identity

    @cached_property
    def lm(self) -> VisionModel:
        from negrefine.judges.vision_model import VisionModel

        s = self.settings
        device = pick_device(s.device)
        dtype = pick_dtype(s.dtype, device)
        model, processor = load_vision_lm(str(s.model), s.revision, device, dtype)
        return VisionModel(model, processor, str(s.model), s.batch_size, s.share_images)

    def _ask(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        # Of each image, the positions of its questions.
        rows: dict[str, list[int]] = {}
        for position, query in enumerate(queries):
            rows.setdefault(query.word, []).append(position)
        keys = list(rows)
        texts = [[self.settings.prompts.text(queries[i]) for i in rows[key]] for key in keys]
        failures: list[str] = []
        for row, found in self.lm.score([self.pictures[key] for key in keys], texts):
            if isinstance(found, str):
                failures.append(found)
                continue
            self.usage.asked += len(found)
            self.usage.prompt_tokens = self.lm.tokens
            yield list(zip(rows[keys[row]], itertools.starmap(self._answer, found), strict=True))

        if failures:
            raise QuestionsFailedError(
                f"{len(failures)} of {len(keys)} images cannot be asked about: {failures[0]}"
            )

    def _answer(self, margin: float, mass: float) -> Answer:
        if mass < self.settings.least_mass:
            return Answer(None, undecided_by(mass))
        return answer_of(margin)
