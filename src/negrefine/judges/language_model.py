"""The base of the judges that ask a language model and store its answers."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from negrefine.errors import InputError
from negrefine.judges.base import AnswerBatch, Query, QueryJudge, Usage
from negrefine.judges.prompts import PUBLISHED_PROMPTS, JudgePrompts
from negrefine.judges.store import AnswerStore, default_store


@dataclass(repr=False, eq=False, kw_only=True)
class LanguageModelJudge(QueryJudge):
    """Looks answers up in a store, and asks the model, by `_ask`, for those that are missing.

    Args:
        prompts: The wording of the questions.
        store: Where answers are kept: an AnswerStore, a file, "default" for the one in
            `cache_directory()`, or None to keep none.
    """

    prompts: JudgePrompts = PUBLISHED_PROMPTS
    store: AnswerStore | str | os.PathLike[str] | None = "default"
    usage: Usage = field(default_factory=Usage, init=False)

    @property
    @abstractmethod
    def identity(self) -> str:
        """Everything that determines the answers, as one line: the key of the stored answers."""

    @abstractmethod
    def _ask(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        """Yield (position, answer) lists of distinct questions; count in `usage` what was asked."""

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        """Yield lists of (position in `queries`, answer), stored ones first.

        Each new answer is stored before it is yielded. Equal queries are asked once.

        Raises:
            InputError: The model or the store cannot be found, loaded or used.
            JudgeError: A server cannot be reached or refuses the questions; or some questions
                failed permanently, after all others were answered and stored.
        """
        if not queries:
            return
        store = self._open_store
        known = {} if store is None else store.get(self.identity, queries)
        self.usage.cached += len(known)
        if known:
            yield sorted(known.items())
        positions: dict[Query, list[int]] = {}
        for position, query in enumerate(queries):
            if position not in known:
                positions.setdefault(query, []).append(position)
        missing = list(positions)
        for batch in self._ask(missing) if missing else ():
            if store is not None:
                store.put(self.identity, [(missing[i], answer) for i, answer in batch])
            yield [(position, answer) for i, answer in batch for position in positions[missing[i]]]

    @cached_property
    def _open_store(self) -> AnswerStore | None:
        if self.store is None or isinstance(self.store, AnswerStore):
            return self.store
        return default_store() if self.store == "default" else AnswerStore(self.store)

    def _check_at_least(self, **minimum: float) -> None:
        """Raise InputError if an attribute is less than its minimum; None is allowed."""
        for name, least in minimum.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise InputError(f"{name} must be at least {least:g}, not {value!r}.")
