"""What the proposers share that ask a language model: requests, the store, reading of replies."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence

from negrefine.judges.base import Answer, AnswerBatch, Query, Usage, answer_all
from negrefine.judges.hf import HFJudge
from negrefine.judges.openai import OpenAIJudge
from negrefine.proposers.base import clean_names, read_list, warn_of_unusable
from negrefine.proposers.prompts import far_query, similar_query

# EOE asks for 50 at a time.
_PER_REQUEST = 50


class ModelProposer:
    """Asks a language model for lists, and takes their lines for names.

    Each reply is kept in the answer store of the judges before the next request is sent, so that a
    run that was interrupted continues, and one that is repeated asks nothing and proposes the same.
    """

    def __init__(self, asker: HFJudge | OpenAIJudge) -> None:
        self._asker = asker
        self.name = asker.name

    @property
    def usage(self) -> Usage:
        """The requests and tokens so far."""
        return self._asker.usage

    @property
    def identity(self) -> str:
        """Everything that determines the replies, as one line: the key of the stored replies."""
        return self._asker.identity

    def propose_similar(self, class_names: Sequence[str], n: int) -> Mapping[str, Sequence[str]]:
        """Ask once for each class, as EOE and ANTS do, for n names that look like it.

        A refused request, and a reply without a list, gives none.

        Raises:
            InputError: The model or the store cannot be found, loaded or used.
            JudgeError: A server cannot be reached or refuses the requests; or some failed
                permanently, after the replies to all others were stored.
        """
        answers = answer_all(self._asker, [similar_query(name, n) for name in class_names])
        listed = [read_list(text(answer)) for answer in answers]
        warn_of_unusable((name for names in listed for name in names), self.name)
        return {
            name: clean_names(names, n, self.name)
            for name, names in zip(class_names, listed, strict=True)
        }

    def propose_far(self, class_names: Sequence[str], n: int) -> Sequence[str]:
        """Ask for 50 names at a time in one conversation, as EOE does, and return n of them.

        Models repeat themselves, so that fewer different names may come. Raises as
        `propose_similar`.
        """
        replies: list[str] = []
        for _ in range(0, n, _PER_REQUEST):
            request = far_query(class_names, min(_PER_REQUEST, n), replies)
            (answer,) = answer_all(self._asker, [request])
            if not text(answer):
                break
            replies.append(text(answer))
        names = [name for reply in replies for name in read_list(reply)]
        warn_of_unusable(names, self.name)
        return clean_names(names, n, self.name)


def as_answer(reply: str) -> Answer:
    """Return a reply as what the answer store holds."""
    return Answer(True, reply)


def text(answer: Answer) -> str:
    """Return the reply in a stored answer, "" for a request that was refused."""
    return answer.reason if answer.yes else ""


def proposing(identity: str) -> str:
    """Return the identity of a judge as that of a proposer with the same model."""
    return json.dumps(
        {**json.loads(identity), "task": "propose"}, sort_keys=True, ensure_ascii=False
    )


def warning_of_refusals(
    answers: Iterator[AnswerBatch], queries: Sequence[Query], name: str
) -> Iterator[AnswerBatch]:
    """Yield the answers, and warn at the end about requests without a reply."""
    refusals: list[str] = []
    for batch in answers:
        refusals += [answer.reason for _, answer in batch if not answer.yes]
        yield batch
    if refusals:
        warnings.warn(
            f"{len(refusals)} of {len(queries)} requests to {name!r} for proposals gave none; the "
            f"first: {refusals[0]}.",
            stacklevel=2,
        )
