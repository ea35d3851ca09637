"""Proposals of any server that speaks the OpenAI chat protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from negrefine.errors import InputError
from negrefine.judges.base import Answer, AnswerBatch, Query
from negrefine.judges.chat_asker import ChatAsker
from negrefine.judges.completion import MOST_CHARACTERS
from negrefine.judges.language_model import LanguageModelJudge
from negrefine.judges.openai import OpenAIJudge
from negrefine.judges.store import AnswerStore
from negrefine.proposers.language_model import (
    ModelProposer,
    as_answer,
    proposing,
    warning_of_refusals,
)
from negrefine.proposers.prompts import ProposalPrompts

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_SHOWN_CHARACTERS = 80


class _TextAsker(ChatAsker):
    """Takes a reply as it is; `ChatAsker` retries, masks and gives up as for a judge."""

    async def _answer(self, query: Query) -> Answer:
        reply = await self._reply(query)
        if reply.refusal:
            return Answer(None, self.mask(reply.refusal, _SHOWN_CHARACTERS))
        return as_answer(self.mask(reply.text, MOST_CHARACTERS))


@dataclass(repr=False, eq=False)
class _Texts(OpenAIJudge):
    """Asks like a judge, and stores replies whole."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # A kilobyte for each token, of which nothing is read.
        self._server.refused.add("logprobs")

    @property
    def identity(self) -> str:
        return proposing(super().identity)

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        answers = LanguageModelJudge.iter_answers(self, queries)
        return warning_of_refusals(answers, queries, self.name)

    def _asker(self, client: AsyncOpenAI) -> ChatAsker:
        return _TextAsker(self, client, self._server)


class OpenAIProposer(ModelProposer):
    """Asks a server with the client, retries and store of `OpenAIJudge`, at temperature 0.

    The requests about single classes are sent in parallel, and those for far names one after the
    other. A reply that was cut off is a failure: raise `max_tokens`.

    Args:
        model: Name of the model on the server.
        base_url: As for `OpenAIJudge`, like all arguments that are not explained here.
        max_tokens: Of a reply, thoughts included; None is no limit.
        prompts: The wording of the requests.

    Raises:
        InputError: A setting is out of range or unusable.

    Example:
        >>> url = "http://localhost:11434/v1"
        >>> proposer = negrefine.OpenAIProposer("qwen2.5:14b", url, store=None)
        >>> proposer.propose_similar(["dog"], 2)
        {'dog': ['jackal', 'fox']}
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 16,
        timeout: float = 60.0,
        max_retries: int = 8,
        first_pause: float = 0.5,
        longest_pause: float = 60.0,
        max_tokens: int | None = 1024,
        revision: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        prompts: ProposalPrompts = ProposalPrompts(),  # noqa: B008 - frozen
        store: AnswerStore | str | os.PathLike[str] | None = "default",
    ) -> None:
        if not isinstance(prompts, ProposalPrompts):
            raise InputError(f"prompts must be ProposalPrompts, not {prompts!r}.")
        wording: Any = prompts
        super().__init__(
            _Texts(
                model,
                base_url,
                api_key_env=api_key_env,
                concurrency=concurrency,
                timeout=timeout,
                max_retries=max_retries,
                first_pause=first_pause,
                longest_pause=longest_pause,
                max_tokens=max_tokens,
                revision=revision,
                extra_body=extra_body,
                prompts=wording,
                store=store,
            )
        )
