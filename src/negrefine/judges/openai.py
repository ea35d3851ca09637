"""A judge behind any server that speaks the OpenAI chat protocol."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import KW_ONLY, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from negrefine.errors import InputError, JudgeError
from negrefine.judges.base import Answer, AnswerBatch, Query
from negrefine.judges.chat_asker import ChatAsker, ServerFacts, UnansweredError
from negrefine.judges.chat_client import LOGGING_PACKAGES, check_address, open_client
from negrefine.judges.language_model import LanguageModelJudge
from negrefine.judges.prompts import judge_identity
from negrefine.key_mask import masked_logs

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# Part of the identity only if it is another number: answers stored before it was part stay valid.
_MAX_TOKENS = 16
# Fields of a request that the judge sets, and those with which a reply could not be read.
_OWN_FIELDS = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "temperature"}
    | {"logprobs", "top_logprobs", "stream", "stream_options", "n"}
)


@dataclass(repr=False, eq=False)
class OpenAIJudge(LanguageModelJudge):
    """Asks a server (vLLM, llama.cpp, Ollama, `transformers serve`, a hosted one) in parallel.

    The reply's first word is the answer; log-probabilities, where the server gives them, are its
    confidence. A question whose reply is neither yes nor no is asked once more and then undecided.
    A question that the model or a content filter refuses is undecided at once, since the same
    question would be refused again; each call with such questions warns. An empty reply, and one
    that ends within the model's thoughts, was cut off before the answer, calls a tool or is longer
    than `chat_client.MOST_BYTES`, is a failure and is not stored.

    A request that fails for a transient reason (time-out, broken connection, 408, 409, 425, 429,
    5xx, a body that is not a chat completion) is repeated after a random, growing pause, at least
    as long as the server's Retry-After. One question costs at most 2 * (1 + max_retries) requests,
    and one more for each of log-probabilities, max_tokens (sent as max_completion_tokens from then
    on), temperature and the system role (its text heads the question from then on) that the server
    turns out to refuse. An error in a body with status 200 counts as one with its code as status,
    and a reply that the server ended with an error as a body that is not a chat completion.

    The key, or eight letters and digits of it in a row, is masked in reasons, messages and logs.

    At most `concurrency` requests are open, and at most twice as many answers wait for the reader.

    Args:
        model: Name of the model on the server.
        base_url: Such as "http://localhost:8000/v1"; None is $OPENAI_BASE_URL or OpenAI's own.
        api_key_env: Environment variable that holds the key. It is read when questions are asked
            and not kept. If it is unset or empty, a server given by `base_url` gets a dummy key.
        timeout: Seconds that one request may take, from the first to the last byte.
        first_pause: Largest random pause before the first repetition in seconds, doubled each time.
        longest_pause: Upper bound of the pauses in seconds, Retry-After included.
        max_tokens: Of a reply, thoughts included; models that think need None, no limit.
        revision: Distinguishes versions of a model with the same name in the store.
        extra_body: More fields of a request, other than those the judge sets, such as
            {"chat_template_kwargs": {"enable_thinking": False}}.
        prompts: As for `LanguageModelJudge`, like `store`.

    Raises:
        InputError: A setting is out of range or unusable.

    Example:
        >>> judge = negrefine.OpenAIJudge("qwen2.5:14b", "http://localhost:11434/v1", store=None)
        >>> [answer.yes for answer in judge.is_proper_noun(["dallas", "bridge"])]
        [True, False]
    """

    model: str
    base_url: str | None = None
    _: KW_ONLY
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    timeout: float = 60.0
    max_retries: int = 8
    first_pause: float = 0.5
    longest_pause: float = 60.0
    max_tokens: int | None = _MAX_TOKENS
    revision: str | None = None
    extra_body: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        self._check_at_least(
            concurrency=1, timeout=1e-9, max_retries=0, first_pause=0, longest_pause=0, max_tokens=1
        )
        if self.base_url is not None:
            check_address(self.base_url, "base_url", self.api_key_env)
        self.extra_body, self._extra = _checked(self.extra_body or {})
        self.name = f"openai:{self.model}"
        # Asks the fewest questions.
        self.ranks_per_round = 1
        self._server = ServerFacts()

    @property
    def identity(self) -> str:
        """Everything that determines the answers, as one line.

        The server's address is not included: the same model behind another server is the same
        judge. Give `revision` where that is wrong. `extra_body` is included as a SHA-256.
        """
        return judge_identity(self.prompts, judge="openai", **self._facts())

    def _facts(self) -> dict[str, str | None]:
        """Return what determines the answers beside the wording."""
        digest = hashlib.sha256(self._extra.encode()).hexdigest()[:16]
        extra = digest if self.extra_body else None
        limit = None if self.max_tokens == _MAX_TOKENS else json.dumps(self.max_tokens)
        facts = {"model": self.model, "revision": self.revision, "extra": extra}
        return {**facts, "max_tokens": limit}

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        """Yield lists of (position in `queries`, answer), as `LanguageModelJudge` does.

        Warns at the end about questions that were refused.

        Raises:
            InputError: The connection cannot be made with these settings, or the store not used.
            JudgeError: The server cannot be reached or refuses the questions; or some questions
                failed permanently, after all others were answered and stored.
        """
        refusals: list[str] = []
        for batch in super().iter_answers(queries):
            refusals += [a.reason for _, a in batch if a.yes is None and a.reason[:7] == "refused"]
            yield batch
        if refusals:
            warnings.warn(
                f"{len(refusals)} of {len(queries)} questions to {self.name!r} were refused: they "
                f"are undecided and remove no label; the first: {refusals[0]}. Another model, or "
                "another content filter of the server, may answer them.",
                stacklevel=2,
            )

    def _asker(self, client: AsyncOpenAI) -> ChatAsker:
        """Return what asks single questions and reads the replies."""
        return ChatAsker(self, client, self._server)

    def _ask(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        client = open_client(self.base_url, self.api_key_env, self.timeout)
        from anyio.from_thread import start_blocking_portal

        asker = self._asker(client)
        remaining = iter(range(len(queries)))
        positions: dict[Future[Answer], int] = {}
        failures: list[str] = []

        def start() -> None:
            for i in islice(remaining, 2 * self.concurrency - len(positions)):
                positions[portal.start_task_soon(asker.ask, queries[i])] = i

        # The event loop has a thread of its own: a notebook already has one in the main thread.
        with masked_logs(asker.mask, *LOGGING_PACKAGES), start_blocking_portal() as portal:
            try:
                start()
                while positions:
                    answers: AnswerBatch = []
                    fatal: Exception | None = None
                    for future in wait(positions, return_when=FIRST_COMPLETED).done:
                        position = positions.pop(future)
                        try:
                            answers.append((position, future.result()))
                        except UnansweredError as error:
                            failures.append(str(error))
                        except Exception as error:
                            fatal = error
                    if fatal is None:
                        start()
                    if answers:
                        yield answers
                    if fatal is not None:
                        raise fatal
            finally:
                # Else each request that is cancelled would let a waiting question be asked.
                asker.stopped = True
                # The reader stopped, perhaps by Ctrl-C, but what has arrived is paid for.
                arrived = [
                    (queries[i], future.result())
                    for future, i in positions.items()
                    if not future.cancel() and not future.exception()
                ]
                portal.call(client.close)
                if arrived and self._open_store is not None:
                    self._open_store.put(self.identity, arrived)
        if failures:
            raise self._unanswered(failures, len(queries), asker.where)

    def _unanswered(self, failures: Sequence[str], n_queries: int, where: str) -> JudgeError:
        if len(failures) == n_queries:
            advice = "run it again when that is mended"
        elif self.store is not None:
            advice = "the others are stored: run it again to ask only these"
        else:
            advice = "without an answer store the others are lost: run it again to ask all"
        return JudgeError(
            f"{len(failures)} of {n_queries} questions to {where} got no answer ({failures[-1]}); "
            f"{advice}."
        )


def _checked(fields: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return extra fields of a request, also as JSON; InputError if they cannot be sent."""
    try:
        if not isinstance(fields, Mapping):
            raise TypeError("not a dictionary")
        copy = dict(fields)
        text = json.dumps(copy, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"extra_body cannot be sent as JSON ({error}): give a dictionary of numbers, strings, "
            "lists and dictionaries."
        ) from error
    if own := sorted(_OWN_FIELDS & copy.keys()):
        raise InputError(
            f"The extra fields of a request contain {', '.join(map(repr, own))}, which the judge "
            "sets itself: leave it out."
        )
    return copy, text
