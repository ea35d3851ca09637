"""A judge behind any server that speaks the OpenAI chat protocol."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import KW_ONLY, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from negrefine import hub
from negrefine.errors import InputError, JudgeError
from negrefine.judges import server_errors
from negrefine.judges.base import Answer, AnswerBatch, Query
from negrefine.judges.chat_reply import Reply, read_completion, read_reply
from negrefine.judges.language_model import LanguageModelJudge
from negrefine.judges.prompts import judge_identity

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

_N_ALTERNATIVES = 10
_BAD_REQUEST = frozenset({400, 422})
# Part of the identity only if it is another number: answers stored before it was part stay valid.
_MAX_TOKENS = 16
# Fields of a request that the judge sets, and those with which a reply could not be read.
_OWN_FIELDS = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "temperature"}
    | {"logprobs", "top_logprobs", "stream", "stream_options", "n"}
)
# Options that a server may refuse and that are not essential, by the word in its error message.
_OPTIONAL = {"logprob": "logprobs", "max_tokens": "max_tokens", "temperature": "temperature"}
# This many failures without an answer in between mean that the server is dead.
_LEAST_FAILURES = 16
_CONNECT_SECONDS = 10.0
# Sent where a server needs no key.
_NO_KEY = "none"


@dataclass(repr=False, eq=False)
class OpenAIJudge(LanguageModelJudge):
    """Asks a server (vLLM, llama.cpp, Ollama, `transformers serve`, a hosted one) in parallel.

    The reply's first word is the answer; log-probabilities, where the server gives them, are its
    confidence. A question whose reply is neither yes nor no is asked once more and then undecided,
    as is a question that a content filter refuses. An empty reply, and one that ends within the
    model's thoughts or was cut off before the answer, is a failure and is not stored.

    A request that fails for a transient reason (time-out, broken connection, 408, 409, 425, 429,
    5xx, a body that is not a chat completion) is repeated after a random, growing pause, at least
    as long as the server's Retry-After. One question costs at most 2 * (1 + max_retries) requests,
    and one more for each of log-probabilities, max_tokens (sent as max_completion_tokens from then
    on), temperature and the system role (its text heads the question from then on) that the server
    turns out to refuse. An error in a body with status 200 counts as one with its code as status.

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
        url = self.base_url
        if url is not None and not url.startswith(("http://", "https://")):
            raise InputError(f"base_url is {url!r}: give one such as 'http://localhost:8000/v1'.")
        if url is not None and "@" in url.partition("//")[2].partition("/")[0]:
            raise InputError(
                "base_url contains a user or password, which logs and messages would show: put a "
                f"key into the environment variable {self.api_key_env!r} instead."
            )
        self.extra_body, self._extra = _checked(self.extra_body or {})
        self.name = f"openai:{self.model}"
        # Asks the fewest questions.
        self.ranks_per_round = 1
        # What was learned about the server: it has responded, and with a reply that could be used.
        self._reached = self._understood = False
        self._refused_options: set[str] = set()

    @property
    def identity(self) -> str:
        """Everything that determines the answers, as one line.

        The server's address is not included: the same model behind another server is the same
        judge. Give `revision` where that is wrong. `extra_body` is included as a SHA-256.
        """
        digest = hashlib.sha256(self._extra.encode()).hexdigest()[:16]
        extra = digest if self.extra_body else None
        limit = None if self.max_tokens == _MAX_TOKENS else json.dumps(self.max_tokens)
        facts = {"model": self.model, "revision": self.revision, "extra": extra}
        facts["max_tokens"] = limit
        return judge_identity(self.prompts, judge="openai", **facts)

    def _ask(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        client = self._client()
        from anyio.from_thread import start_blocking_portal

        asker = _Asker(self, client)
        remaining = iter(range(len(queries)))
        positions: dict[Future[Answer], int] = {}
        failures: list[str] = []

        def start() -> None:
            for i in islice(remaining, 2 * self.concurrency - len(positions)):
                positions[portal.start_task_soon(asker.ask, queries[i])] = i

        # The event loop has a thread of its own: a notebook already has one in the main thread.
        with start_blocking_portal() as portal:
            try:
                start()
                while positions:
                    answers: AnswerBatch = []
                    fatal: Exception | None = None
                    for future in wait(positions, return_when=FIRST_COMPLETED).done:
                        position = positions.pop(future)
                        try:
                            answers.append((position, future.result()))
                        except _UnansweredError as error:
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
            raise JudgeError(
                f"{len(failures)} of {len(queries)} questions to {asker.where} got no answer "
                f"({failures[-1]}); the others are stored: run it again to ask only these."
            )

    def _client(self) -> AsyncOpenAI:
        try:
            from openai import AsyncOpenAI, OpenAIError, Timeout
        except ImportError as error:
            raise InputError(
                "The OpenAI judge needs the package openai: pip install 'negrefine[openai]'."
            ) from error
        key = os.environ.get(self.api_key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise InputError(
                f"The key in the environment variable {self.api_key_env!r} contains characters "
                "that no key has, such as line breaks or curly quotes: set it again."
            )
        if not key and not (self.base_url or os.environ.get("OPENAI_BASE_URL")):
            raise InputError(
                f"There is no key in the environment variable {self.api_key_env!r}: set it, or "
                "give the base_url of a server that needs none."
            )
        try:
            urlsplit(self.base_url or "").port  # noqa: B018  a ValueError for ports above 65535
            connect = min(self.timeout / 2, _CONNECT_SECONDS)
            return AsyncOpenAI(
                api_key=key or _NO_KEY,
                base_url=self.base_url,
                timeout=Timeout(self.timeout, connect=connect),
                # The client's own retries do not include bodies that are not a completion.
                max_retries=0,
            )
        except (OpenAIError, ValueError) as error:
            raise InputError(
                f"The server {self.base_url!r} cannot be used: {error}.{hub.connection_settings()}"
            ) from None
        except (ImportError, OSError) as error:
            # A SOCKS proxy without socksio, or a file of certificates that is missing.
            raise InputError(
                f"The server {self.base_url!r} cannot be reached with these settings: "
                f"{str(error).rstrip('.')}.{hub.connection_settings()}"
            ) from error


def _checked(fields: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return extra fields of a request, also as JSON; InputError if they cannot be sent."""
    try:
        if not isinstance(fields, Mapping):
            raise TypeError("not a dictionary")
        copy = dict(fields)
        text = json.dumps(copy, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
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


class _UnansweredError(Exception):
    """A question failed permanently; the others continue."""


class _NoAnswerError(Exception):
    """A reply ended before the answer."""


class _Asker:
    """Asks single questions, within the event loop."""

    def __init__(self, judge: OpenAIJudge, client: AsyncOpenAI) -> None:
        self.where = f"the server {str(client.base_url)!r}"
        self._judge = judge
        self._client = client
        self._open_requests = asyncio.Semaphore(judge.concurrency)
        # Failures since the last answer: a dead server must not be asked 70,000 times.
        self._failures_in_a_row = 0
        self._fatal: JudgeError | None = None
        self.stopped = False

    async def ask(self, query: Query) -> Answer:
        """Return the answer. After a JudgeError, all further questions raise it at once."""
        async with self._open_requests:
            if self.stopped:
                raise asyncio.CancelledError
            if self._fatal is not None:
                raise self._fatal
            answer = await self._answer(query)
            self._failures_in_a_row = 0
            return answer

    async def _answer(self, query: Query) -> Answer:
        text = ""
        for _ in range(2):
            reply = await self._reply(query)
            if reply is None:
                return Answer(None, "refused by the server's content filter")
            if answer := read_reply(reply.text, reply.alternatives):
                return answer
            text = reply.text
        return Answer(None, f"neither yes nor no, twice: {text[:40]!r}")

    async def _reply(self, query: Query) -> Reply | None:
        """Return the reply, None if a content filter refused the question."""
        judge = self._judge
        n_retries = 0
        while True:
            try:
                return await self._request(query)
            except Exception as error:
                # Servers repeat keys in their errors, so ours must not be chained to them.
                transient = server_errors.is_transient(error, reached=judge._reached)
                if not transient or n_retries == judge.max_retries:
                    raise self._give_up(error, transient=transient) from None
                longest = min(judge.first_pause * 2 ** min(n_retries, 60), judge.longest_pause)
                pause = random.uniform(0, longest)  # noqa: S311
                pause = max(pause, min(server_errors.retry_after(error), judge.longest_pause))
            await asyncio.sleep(pause)
            n_retries += 1

    def _give_up(self, error: Exception, *, transient: bool) -> Exception:
        """Return what to raise: whether only this question or all questions fail."""
        key = self._client.api_key
        text = server_errors.error_text(error, "" if key == _NO_KEY else key)
        judge = self._judge
        no_answer = isinstance(error, _NoAnswerError)
        # Before the first answer, an error of one question is assumed to be one of all.
        known = judge._understood and not server_errors.is_fatal(error)
        if transient or no_answer or known:
            self._failures_in_a_row += 1
            if self._failures_in_a_row < max(_LEAST_FAILURES, judge.concurrency):
                return _UnansweredError(text)
            problem = (
                f"gave replies without an answer only: {text}"
                if no_answer
                else f"has stopped answering ({text}): what it answered is stored; run it again "
                "when the server is back"
            )
        else:
            advice = server_errors.advice(error, judge.model, judge.api_key_env)
            problem = f"refused: {text}; {advice}"
        self._fatal = JudgeError(f"T{self.where[1:]} {problem}.")
        return self._fatal

    async def _request(self, query: Query) -> Reply | None:
        from openai import APIStatusError

        judge = self._judge
        refused = judge._refused_options
        options: dict[str, Any] = {} if "temperature" in refused else {"temperature": 0.0}
        if judge.max_tokens is not None:
            name = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
            options[name] = judge.max_tokens
        if "logprobs" not in refused:
            options |= {"logprobs": True, "top_logprobs": _N_ALTERNATIVES}
        system_role = "system role" not in refused
        judge.usage.asked += 1
        try:
            response = await asyncio.wait_for(
                self._client.chat.completions.with_raw_response.create(
                    model=judge.model,
                    messages=judge.prompts.messages(query, system_role=system_role),  # type: ignore[arg-type]
                    extra_body=judge.extra_body or None,
                    **options,
                ),
                judge.timeout,
            )
            completion = response.parse()
            server_errors.raise_error_in(completion, response.http_response)
        except asyncio.TimeoutError:
            raise ValueError(f"no whole reply within {judge.timeout:g} seconds") from None
        except APIStatusError as error:
            judge._reached = True
            refusal = self._refusal(error, {*options, "system role"} if system_role else {*options})
            if refusal is not None:
                refused.add(refusal)
                return await self._request(query)
            if error.status_code in _BAD_REQUEST and server_errors.is_filtered(error):
                return None
            raise
        reply = read_completion(completion)
        judge._reached = True
        judge.usage.prompt_tokens += reply.prompt_tokens
        judge.usage.completion_tokens += reply.completion_tokens
        if reply.filtered:
            return None
        if reply.problem:
            raise _NoAnswerError(
                f"{reply.problem}; raise max_tokens (--max-tokens), or turn thinking off with "
                "extra_body (--request-fields)"
            )
        judge._understood = True
        return reply

    def _refusal(self, error: APIStatusError, sent: set[str]) -> str | None:
        """Return which of the sent options the server refuses, None if it refuses something else.

        The option is one to do without from now on.
        """
        judge = self._judge
        # A server that has answered, perhaps not yet when this question was sent, takes the role.
        open_question = not judge._understood or "system role" in judge._refused_options
        if "system role" in sent and open_question and server_errors.refuses_system_role(error):
            return "system role"
        if error.status_code not in _BAD_REQUEST:
            return None
        named = [option for word, option in _OPTIONAL.items() if word in str(error)]
        # Some servers do not name the option; after the first answer it is the question.
        candidates = named if judge._understood else [*named, "logprobs"]
        return next((option for option in candidates if option in sent), None)
