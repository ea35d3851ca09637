"""A judge behind any server that speaks the OpenAI chat protocol."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from negrefine.errors import InputError, JudgeError
from negrefine.labels.answer_store import AnswerStore, answer_through_store, open_store
from negrefine.labels.chat_reply import read_reply
from negrefine.labels.judge_prompts import PUBLISHED_PROMPTS, JudgePrompts, judge_identity
from negrefine.labels.judges import Answer, Query, Usage, answer_all

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_ALTERNATIVES = 10
# Statuses after which the same request may succeed.
_PASSING = frozenset({408, 409, 425, 429})
_INSTALL = (
    "The OpenAI judge needs the packages openai and tenacity: pip install 'negrefine[openai]'."
)


class OpenAIJudge:
    """Asks a server (vLLM, llama.cpp, Ollama, `transformers serve`, a hosted one) side by side.

    The answer is read from the log-probabilities of the reply's first token where the server gives
    them, otherwise from its first word. A reply that is neither yes nor no is asked for once more
    and then undecided.

    A request that fails for a passing reason (time-out, broken connection, 408, 409, 425, 429, 5xx,
    a body that is no chat completion) is repeated after a random, growing pause, at least as long
    as the server's Retry-After. One question costs at most 2 * (1 + max_retries) requests, and one
    more where the server turns out to refuse log-probabilities.

    Attributes:
        name: "openai:" and the model.
        usage: Requests and tokens so far.
        ranks_per_round: 1, the fewest questions.
    """

    ranks_per_round = 1

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
        max_tokens: int | None = 16,
        revision: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        prompts: JudgePrompts = PUBLISHED_PROMPTS,
        store: AnswerStore | str | os.PathLike[str] | None = "default",
    ) -> None:
        """Take the settings; nothing is asked yet.

        Args:
            model: Name of the model on the server.
            base_url: Such as "http://localhost:8000/v1"; None is $OPENAI_BASE_URL or OpenAI's own.
            api_key_env: Environment variable that holds the key. It is read when questions are
                asked and kept nowhere. Without it a server given by `base_url` gets a dummy.
            concurrency: Most requests open at a time.
            timeout: Seconds that one request may take.
            max_retries: How often a request is repeated.
            first_pause: Seconds before the first repetition, doubled each time, times a random
                share.
            longest_pause: Bound on that, and on what Retry-After may ask for.
            max_tokens: Longest reply; None leaves it to the server, as models that think need.
            revision: Tells versions of a model under one name apart in the store.
            extra_body: Further fields of every request.
            prompts: The questions in words.
            store: Where answers are kept: a file, "default" for the one in `cache_directory()`,
                None for nowhere.

        Raises:
            InputError: A setting that cannot be used.
        """
        for name, value, least in (
            ("concurrency", concurrency, 1),
            ("max_retries", max_retries, 0),
            ("timeout", timeout, 1e-9),
            ("first_pause", first_pause, 0),
            ("longest_pause", longest_pause, 0),
        ):
            if not value >= least:
                raise InputError(f"{name} must be at least {least:g}, not {value!r}.")
        if base_url is not None and not base_url.startswith(("http://", "https://")):
            raise InputError(
                f"base_url is {base_url!r}: give one such as 'http://localhost:8000/v1'."
            )
        self.model = model
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.concurrency = concurrency
        self.timeout = timeout
        self.max_retries = max_retries
        self.first_pause = first_pause
        self.longest_pause = longest_pause
        self.max_tokens = max_tokens
        self.revision = revision
        self.extra_body = dict(extra_body or {})
        self.prompts = prompts
        self.name = f"openai:{model}"
        self.usage = Usage()
        self._store_setting = store
        self._logprobs = True

    @property
    def identity(self) -> str:
        """What decides the answers, as one line.

        The server's address is no part of it: the same model behind another one is the same judge.
        Give `revision` where that is wrong.
        """
        extra = None
        if self.extra_body:
            extra = ", ".join(f"{k}={v!r}" for k, v in sorted(self.extra_body.items()))
        return judge_identity(
            self.prompts, judge="openai", model=self.model, revision=self.revision, extra=extra
        )

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        """Is each word the name of one place, person or other entity?"""
        return answer_all(self, [Query(word) for word in words])

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """For each (word, class name): is the word a kind of the class?"""
        return answer_all(self, [Query(word, (name,)) for word, name in pairs])

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[list[tuple[int, Answer]]]:
        """Yield (position, answer), stored ones first, the others as they arrive.

        Raises:
            JudgeError: The server cannot be reached or refuses the questions; or some failed for
                good, after all others were answered and stored.
        """
        return answer_through_store(self._store, self.identity, queries, self._ask, self.usage)

    @cached_property
    def _store(self) -> AnswerStore | None:
        return open_store(self._store_setting)

    def _ask(self, queries: Sequence[Query]) -> Iterator[list[tuple[int, Answer]]]:
        """Run an event loop in a thread of its own, so that a notebook's loop is no hindrance."""
        client = self._client()
        run = _Run(self, client, queries)
        thread = threading.Thread(target=run.main, name="negrefine-openai", daemon=True)
        thread.start()
        try:
            while (batch := run.next_batch()) is not None:
                yield batch
        finally:
            run.cancel()
            thread.join()

    def _client(self) -> AsyncOpenAI:
        try:
            import tenacity  # noqa: F401
            from openai import AsyncOpenAI, OpenAIError
        except ImportError as error:
            raise InputError(_INSTALL) from error
        key = os.environ.get(self.api_key_env)
        if key is None and (self.base_url or os.environ.get("OPENAI_BASE_URL")):
            key = "none"
        if key is None:
            raise InputError(
                f"There is no key in the environment variable {self.api_key_env!r}: set it, or "
                "give the base_url of a server that needs none."
            )
        try:
            # Its own retries do not see bodies that are no completion.
            return AsyncOpenAI(
                api_key=key, base_url=self.base_url, timeout=self.timeout, max_retries=0
            )
        except (OpenAIError, ValueError) as error:
            raise InputError(f"The server {self.base_url!r} cannot be used: {error}.") from error


class _UnansweredError(Exception):
    """A question failed for good; the others go on."""


class _Run:
    """One batch of questions: workers in an event loop, answers through a queue."""

    def __init__(self, judge: OpenAIJudge, client: AsyncOpenAI, queries: Sequence[Query]) -> None:
        self._judge = judge
        self._client = client
        self._queries = queries
        self._waiting = iter(enumerate(queries))
        self._results: queue.Queue[tuple[int, Answer] | BaseException | None] = queue.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._started = threading.Event()
        self._failed: list[Exception] = []
        # Failures since the last answer: a server that died must not be asked 70,000 times.
        self._failed_in_a_row = 0
        self._answered = 0

    def main(self) -> None:
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self._results.put(error)
        finally:
            self._started.set()
            self._results.put(None)

    def next_batch(self) -> list[tuple[int, Answer]] | None:
        """Return what has arrived, at least one answer, or None at the end."""
        batch: list[tuple[int, Answer]] = []
        while True:
            try:
                item = self._results.get(block=not batch)
            except queue.Empty:
                return batch
            if isinstance(item, BaseException) or item is None:
                if batch:
                    self._results.put(item)
                    return batch
                if isinstance(item, BaseException):
                    raise item
                return None
            batch.append(item)

    def cancel(self) -> None:
        self._started.wait()
        if self._loop is not None and self._task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._started.set()
        workers = [
            asyncio.create_task(self._work())
            for _ in range(min(self._judge.concurrency, len(self._queries)))
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await self._client.close()
        if self._failed:
            raise JudgeError(
                f"{len(self._failed)} of {len(self._queries)} questions to {self._where()} got no "
                f"answer ({self._sentence(self._failed[-1])}); the others are stored: run it again "
                "to ask only these."
            )

    async def _work(self) -> None:
        for position, query in self._waiting:
            try:
                answer = await self._answer(query)
            except _UnansweredError as error:
                cause = error.__cause__
                self._failed.append(cause if isinstance(cause, Exception) else error)
                self._failed_in_a_row += 1
                if self._failed_in_a_row >= max(2, self._judge.concurrency):
                    raise JudgeError(
                        f"{self._where()} has stopped answering "
                        f"({self._sentence(self._failed[-1])}): what it answered is stored; run it "
                        "again when the server is back."
                    ) from cause
                continue
            self._failed_in_a_row = 0
            self._answered += 1
            self._results.put((position, answer))

    async def _answer(self, query: Query) -> Answer:
        for _ in range(2):
            text, alternatives = await self._reply(query)
            answer = read_reply(text, alternatives)
            if answer is not None:
                return answer
        return Answer(None, f"neither yes nor no, twice: {text[:40]!r}")

    async def _reply(self, query: Query) -> tuple[str, list[tuple[str, float]] | None]:
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

        judge = self._judge
        attempts = AsyncRetrying(
            retry=retry_if_exception(self._passes),
            stop=stop_after_attempt(1 + judge.max_retries),
            wait=self._pause,
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    return await self._request(query)
        except Exception as error:
            if self._passes(error):
                raise _UnansweredError from error
            raise self._refused(error) from error
        raise AssertionError("tenacity ends with a result or an exception")

    async def _request(self, query: Query) -> tuple[str, list[tuple[str, float]] | None]:
        from openai import BadRequestError, UnprocessableEntityError

        judge = self._judge
        options: dict[str, Any] = {"temperature": 0.0}
        if judge.max_tokens is not None:
            options["max_tokens"] = judge.max_tokens
        if judge._logprobs:
            options |= {"logprobs": True, "top_logprobs": _ALTERNATIVES}
        judge.usage.asked += 1
        try:
            completion: Any = await self._client.chat.completions.create(
                model=judge.model,
                messages=judge.prompts.messages(query),  # type: ignore[arg-type]
                extra_body=judge.extra_body or None,
                **options,
            )
        except (BadRequestError, UnprocessableEntityError):
            if "logprobs" not in options:
                raise
            # Not every server offers log-probabilities; if they were not the reason, it says so.
            judge._logprobs = False
            return await self._request(query)
        return self._read(completion)

    def _read(self, completion: Any) -> tuple[str, list[tuple[str, float]] | None]:
        """Take a completion apart; ValueError where it is none."""
        try:
            (choice, *_) = completion.choices
            text = choice.message.content or ""
            usage = completion.usage
            if not isinstance(text, str):
                raise TypeError("the reply is no text")
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError("the body is no chat completion") from error
        if usage is not None:
            self._judge.usage.prompt_tokens += getattr(usage, "prompt_tokens", 0) or 0
            self._judge.usage.completion_tokens += getattr(usage, "completion_tokens", 0) or 0
        if "<think>" in text:
            return text, None
        return text, _first_word(choice)

    def _passes(self, error: BaseException) -> bool:
        """Whether the same request may succeed later."""
        from openai import APIConnectionError, APIError, APIStatusError

        if isinstance(error, APIStatusError):
            return error.status_code in _PASSING or error.status_code >= 500
        if isinstance(error, APIConnectionError):
            # Nobody listens: waiting helps only a server that has been there.
            refused = type(error.__cause__).__name__ in {"ConnectError", "UnsupportedProtocol"}
            return self._answered > 0 or not refused
        return isinstance(error, (APIError, ValueError))

    def _pause(self, state: Any) -> float:
        from tenacity import wait_random_exponential

        judge = self._judge
        pause = float(
            wait_random_exponential(multiplier=judge.first_pause, max=judge.longest_pause)(state)
        )
        response = getattr(state.outcome.exception(), "response", None)
        try:
            wanted = float(response.headers["retry-after"]) if response is not None else 0.0
        except (KeyError, ValueError):
            wanted = 0.0
        return max(pause, min(wanted, judge.longest_pause))

    def _refused(self, error: Exception) -> JudgeError:
        status = getattr(error, "status_code", None)
        advice = {
            401: f"check the key in the environment variable {self._judge.api_key_env!r}",
            403: f"check the key in the environment variable {self._judge.api_key_env!r}",
            404: f"check the address, and that it has a model {self._judge.model!r}",
            None: "check that it runs, and its address",
        }.get(status, "check the model and the options")
        return JudgeError(f"{self._where()} refused: {self._sentence(error)}; {advice}.")

    def _where(self) -> str:
        return f"The server {str(self._client.base_url)!r}"

    def _sentence(self, error: Exception) -> str:
        """Return an error in one line, without the key that some servers repeat."""
        text = " ".join(str(error).split())[:300] or type(error).__name__
        cause = error.__cause__
        if cause is not None and str(cause) and str(cause) not in text:
            text += f" {cause}"
        key = self._client.api_key
        return text.replace(key, "***") if key and key != "none" else text


def _first_word(choice: Any) -> list[tuple[str, float]] | None:
    """Return (token, log-probability) of the alternatives for the first token with letters."""
    content = getattr(getattr(choice, "logprobs", None), "content", None)
    try:
        for token in content or ():
            if any(map(str.isalpha, token.token)):
                known = {token.token: token.logprob}
                known.update((other.token, other.logprob) for other in token.top_logprobs or ())
                return [(name, float(value)) for name, value in known.items()]
    except (AttributeError, TypeError, ValueError):
        # Some servers have a form of their own; the text says it too.
        return None
    return None
