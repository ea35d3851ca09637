"""A vision judge behind any server that speaks the OpenAI chat protocol with images."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from negrefine.errors import InputError, JudgeError
from negrefine.judges.base import Answer, AnswerBatch, Query, Usage
from negrefine.judges.chat_asker import ChatAsker
from negrefine.judges.chat_reply import yes_no_mass
from negrefine.judges.completion import Reply
from negrefine.judges.language_model import LanguageModelJudge
from negrefine.judges.openai import OpenAIJudge
from negrefine.judges.prompts import judge_identity
from negrefine.judges.store import AnswerStore
from negrefine.judges.vision import (
    VISION_PROMPTS,
    QuestionsFailedError,
    VisionPrompts,
    margins_by,
    undecided_by,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from PIL.Image import Image


@dataclass(eq=False)
class OpenAIVision:
    """Asks a vision-language model on a server (vLLM, llama.cpp, Ollama, a hosted one).

    Each question is a request with the image as a PNG in a data URI, `max_tokens` 1 and
    log-probabilities. The reply's first word is the answer; where the server gives no
    log-probabilities the word is all there is, and the margin infinite. Retries, faults, keys and
    the store are those of `OpenAIJudge`, which says what the settings mean.

    Args:
        model: Name of the model on the server.
        base_url: Such as "http://localhost:8000/v1"; None is $OPENAI_BASE_URL or OpenAI's own.
        longest_side: Images with a longer side, in pixels, are made smaller before they are sent;
            None sends all as they are.
        max_tokens: Of a reply; a model that thinks needs None, no limit.
        prompts: The wording of the question.
        store: As for `HFVision`.

    Raises:
        InputError: A setting is out of range or unusable.

    Example:
        >>> from PIL import Image
        >>> judge = negrefine.OpenAIVision("qwen2.5-vl", "http://localhost:11434/v1", store=None)
        >>> judge.yes_margins([Image.open("cat.png").convert("RGB")], [["cat", "leash"]])
        array([[ inf, -inf]])
    """

    model: str
    base_url: str | None = None
    _: KW_ONLY
    longest_side: int | None = 1024
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    timeout: float = 60.0
    max_retries: int = 8
    first_pause: float = 0.5
    longest_pause: float = 60.0
    max_tokens: int | None = 1
    revision: str | None = None
    extra_body: Mapping[str, Any] | None = None
    prompts: VisionPrompts = VISION_PROMPTS
    store: AnswerStore | str | os.PathLike[str] | None = "default"

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.longest_side is not None and self.longest_side < 1:
            raise InputError(f"longest_side must be at least 1, not {self.longest_side!r}.")
        wording = _Wording(self.prompts, self.longest_side)
        self._judge = _Asking(
            self.model,
            self.base_url,
            api_key_env=self.api_key_env,
            concurrency=self.concurrency,
            timeout=self.timeout,
            max_retries=self.max_retries,
            first_pause=self.first_pause,
            longest_pause=self.longest_pause,
            max_tokens=self.max_tokens,
            revision=self.revision,
            extra_body=self.extra_body,
            prompts=wording,  # type: ignore[arg-type]
            store=self.store,
        )
        self.name = f"openai:{self.model}"
        self._pictures = wording.pictures

    @property
    def identity(self) -> str:
        """Everything that determines the answers, but for the server's address, as one line."""
        return self._judge.identity

    @property
    def usage(self) -> Usage:
        """Questions and tokens so far."""
        return self._judge.usage

    def yes_margins(
        self, images: Sequence[Image], names: Sequence[Sequence[str]]
    ) -> NDArray[np.float64]:
        """Return log P(yes) - log P(no), float64 (n, m); see `VisionJudge`.

        Raises:
            InputError: The connection cannot be made with these settings, or the store not used.
            JudgeError: The server cannot be reached or refuses the questions.
            ImagesFailedError: Some questions failed permanently, after all others were answered
                and stored.
        """
        return margins_by(self._judge, self._pictures, images, names)


class _Wording:
    """Writes a query, whose word is the key of an image, as the messages of a chat."""

    def __init__(self, prompts: VisionPrompts, longest_side: int | None) -> None:
        self.prompts = prompts
        self.longest_side = longest_side
        self.pictures: dict[str, Image] = {}

    def messages(self, query: Query, *, system_role: bool = True) -> list[dict[str, Any]]:
        del system_role
        url = _data_uri(self.pictures[query.word], self.longest_side)
        parts = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": self.prompts.text(query)},
        ]
        return [{"role": "user", "content": parts}]


class _VisionAsker(ChatAsker):
    """Leaves open what the model was less likely than not to answer with yes or no."""

    def _read(self, reply: Reply) -> Answer | None:
        answer = super()._read(reply)
        mass = yes_no_mass(reply.alternatives)
        if answer is not None and answer.confidence is None and mass:
            return Answer(None, undecided_by(mass))
        return answer


class _Asking(OpenAIJudge):
    @property
    def identity(self) -> str:
        wording: Any = self.prompts
        side = wording.longest_side
        facts = {**self._facts(), "longest_side": "as it is" if side is None else str(side)}
        return judge_identity(wording.prompts, judge="openai-vision", **facts)

    def _asker(self, client: AsyncOpenAI) -> ChatAsker:
        return _VisionAsker(self, client, self._server)

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        # A refused question is undecided, which whoever asked counts.
        return LanguageModelJudge.iter_answers(self, queries)

    def _ask(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        # With answers of this model in the store, an error is one of a question and not of all:
        # else an image that the server refuses would end each run that continues another.
        self._server.understood |= self.usage.cached > 0
        return super()._ask(queries)

    def _unanswered(self, failures: Sequence[str], n_queries: int, where: str) -> JudgeError:
        return QuestionsFailedError(str(super()._unanswered(failures, n_queries, where)))


def _data_uri(image: Image, longest_side: int | None) -> str:
    from PIL.Image import Resampling

    longest = max(image.size)
    if longest_side is not None and longest > longest_side:
        width, height = (max(1, round(side * longest_side / longest)) for side in image.size)
        image = image.resize((width, height), Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
