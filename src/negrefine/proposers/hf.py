"""Proposals of an instruct model in this process, through transformers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from negrefine.errors import InputError
from negrefine.judges.base import Answer, AnswerBatch, Query
from negrefine.judges.hf import HFJudge
from negrefine.judges.language_model import LanguageModelJudge
from negrefine.judges.store import AnswerStore
from negrefine.judges.thoughts import without_thoughts
from negrefine.proposers.language_model import (
    ModelProposer,
    as_answer,
    proposing,
    warning_of_refusals,
)
from negrefine.proposers.prompts import ProposalPrompts


@dataclass(repr=False, eq=False)
class _Texts(HFJudge):
    """Generates replies as a judge in mode "official" does, and stores them whole."""

    @property
    def identity(self) -> str:
        return proposing(super().identity)

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        answers = LanguageModelJudge.iter_answers(self, queries)
        return warning_of_refusals(answers, queries, self.name)

    def _ask(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        for i, reply, n_tokens, unfinished in self._replies(queries):
            if unfinished:
                yield [(i, Answer(None, unfinished))]
                continue
            # The last line of a reply that was cut off is half a name.
            whole = reply if n_tokens < self.max_new_tokens else reply.rpartition("\n")[0]
            yield [(i, as_answer(without_thoughts(whole)))]


class HFProposer(ModelProposer):
    """Asks a causal instruct model; the most probable token is taken every time.

    The model is loaded for the first request whose reply is not stored, and reads one request at a
    time.

    Args:
        model: Directory of a causal language model in safetensors, or a hub id.
        device: As for `HFJudge`, like `dtype`, `revision` and `store`.
        max_new_tokens: The largest number of tokens of a reply; one that is cut off loses the names
            that would have followed.
        prompts: The wording of the requests.

    Raises:
        InputError: A setting is out of range.

    Example:
        >>> proposer = negrefine.HFProposer("qwen/", max_new_tokens=8, store=None)
        >>> len(proposer.propose_similar(["dog"], 2))
        1
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        max_new_tokens: int = 512,
        prompts: ProposalPrompts = ProposalPrompts(),  # noqa: B008 - frozen
        store: AnswerStore | str | os.PathLike[str] | None = "default",
    ) -> None:
        if not isinstance(prompts, ProposalPrompts):
            raise InputError(f"prompts must be ProposalPrompts, not {prompts!r}.")
        wording: Any = prompts
        super().__init__(
            _Texts(
                model,
                device=device,
                dtype=dtype,
                revision=revision,
                mode="official",
                greedy=True,
                max_new_tokens=max_new_tokens,
                prompts=wording,
                store=store,
            )
        )
