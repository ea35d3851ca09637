"""A judge behind any server that speaks the OpenAI chat protocol."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from negrefine.errors import InputError, JudgeError
from negrefine.judges.base import Answer, Query, Usage, answer_all
from negrefine.judges.chat_reply import read_reply
from negrefine.judges.prompts import PUBLISHED_PROMPTS, JudgePrompts, judge_identity
from negrefine.judges.store import AnswerStore, answer_through_store, open_store

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_ALTERNATIVES = 10
# Statuses after which the same request may succeed.
_PASSING = frozenset({408, 409, 425, 429})
# Statuses that every question would get.
_ENDING = frozenset({401, 402, 403, 404})
# Options that a server may refuse and that can be done without, by the word it names them with.
_DISPENSABLE = {"logprob": "logprobs", "max_tokens": "max_tokens", "temperature": "temperature"}
# So many failures without an answer in between mean a dead server, and fewer mean bad luck.
_LEAST_FAILURES = 16
_CONNECT_SECONDS = 10.0
_INSTALL = (
    "The OpenAI judge needs the packages openai and tenacity: pip install 'negrefine[openai]'."
)


class OpenAIJudge:
    """Asks a server (vLLM, llama.cpp, Ollama, `transformers serve`, a hosted one) side by side.

    The reply's first word is the answer; log-probabilities, where the server gives them, are its
    confidence. A reply that is neither yes nor no is asked for once more and then undecided, as is
    a question that a content filter refuses. A reply that ends within the model's thoughts is a
    failure and stored nowhere.

    A request that fails for a passing reason (time-out, broken connection, 408, 409, 425, 429, 5xx,
    a body that is no chat completion) is repeated after a random, growing pause, at least as long
    as the server's Retry-After. One question costs at most 2 * (1 + max_retries) requests, and one
    more for each of log-probabilities, max_tokens (sent as max_completion_tokens from then on) and
    temperature that the server turns out to refuse.

    At most `concurrency` requests are open, and at most twice as many answers are ahead of their
    reader.

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
                asked and kept nowhere. Without it, or if it is empty, a server given by `base_url`
                gets a dummy.
            concurrency: Most requests open at a time.
            timeout: Seconds that one request may take, from the first to the last byte.
            max_retries: How often a request is repeated.
            first_pause: Seconds before the first repetition, doubled each time, times a random
                share.
            longest_pause: Bound on that, and on what Retry-After may ask for.
            max_tokens: Longest reply, thoughts included; None leaves it to the server, as models
                that think need.
            revision: Tells versions of a model under one name apart in the store.
            extra_body: Further fields of every request, such as
                {"chat_template_kwargs": {"enable_thinking": False}}.
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
        if base_url is not None and "@" in base_url.partition("//")[2].partition("/")[0]:
            raise InputError(
                "base_url holds a user or password, which logs and messages would show: put a key "
                f"into the environment variable {api_key_env!r} instead."
            )
        try:
            extra = json.dumps(dict(extra_body or {}), sort_keys=True)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"extra_body cannot be sent as JSON ({error}): give numbers, texts, lists and "
                "dictionaries."
            ) from error
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
        self._extra = hashlib.sha256(extra.encode()).hexdigest()[:16] if extra_body else None
        self._refused_options: set[str] = set()
        self._reached = False
        self._understood = False

    @property
    def identity(self) -> str:
        """What decides the answers, as one line.

        The server's address is no part of it: the same model behind another one is the same judge.
        Give `revision` where that is wrong. `extra_body` enters as a SHA-256.
        """
        return judge_identity(
            self.prompts,
            judge="openai",
            model=self.model,
            revision=self.revision,
            extra=self._extra,
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
            # Whoever asked has gone, perhaps by Ctrl-C, but these answers are paid for.
            arrived = run.arrived()
            if arrived and self._store is not None:
                self._store.put(self.identity, [(queries[i], answer) for i, answer in arrived])

    def _client(self) -> AsyncOpenAI:
        try:
            import tenacity  # noqa: F401
            from openai import AsyncOpenAI, OpenAIError, Timeout
        except ImportError as error:
            raise InputError(_INSTALL) from error
        key = os.environ.get(self.api_key_env, "").strip() or None
        if key is not None and not (key.isascii() and key.isprintable()):
            raise InputError(
                f"The key in the environment variable {self.api_key_env!r} holds characters that "
                "no key has, such as line breaks or curly quotes: set it again."
            )
        if key is None and (self.base_url or os.environ.get("OPENAI_BASE_URL")):
            key = "none"
        if key is None:
            raise InputError(
                f"There is no key in the environment variable {self.api_key_env!r}: set it, or "
                "give the base_url of a server that needs none."
            )
        try:
            # Its own retries do not see bodies that are no completion.
            urlsplit(self.base_url or "").port  # noqa: B018  a ValueError for ports above 65535
            connect = min(self.timeout / 2, _CONNECT_SECONDS)
            return AsyncOpenAI(
                api_key=key,
                base_url=self.base_url,
                timeout=Timeout(self.timeout, connect=connect),
                max_retries=0,
            )
        except (OpenAIError, ValueError) as error:
            raise InputError(f"The server {self.base_url!r} cannot be used: {error}.") from None


class _UnansweredError(Exception):
    """A question failed for good; the others go on."""


class _FilteredError(Exception):
    """A content filter refused a question, as it would again."""


class _CutOffError(Exception):
    """A reply ended before the answer began."""


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
        self._room = asyncio.Semaphore(2 * judge.concurrency)
        self._ended = False
        self._error: BaseException | None = None

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
        while not self._ended:
            try:
                item = self._results.get(block=not batch)
            except queue.Empty:
                return batch
            if isinstance(item, tuple):
                batch.append(item)
                self._in_loop(self._room.release)
            else:
                # Kept for the next call: put back, it would stand behind the end.
                self._ended, self._error = True, item
        if batch:
            return batch
        if self._error is not None:
            raise self._error
        return None

    def arrived(self) -> list[tuple[int, Answer]]:
        """Return the answers that nobody has taken, once the thread has ended."""
        left: list[tuple[int, Answer]] = []
        while not self._results.empty():
            item = self._results.get()
            if isinstance(item, tuple):
                left.append(item)
        return left

    def cancel(self) -> None:
        self._started.wait()
        if self._task is not None:
            self._in_loop(self._task.cancel)

    def _in_loop(self, call: Callable[[], object]) -> None:
        if self._loop is None:
            return
        # The loop closes in the other thread, when all is done.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

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
        while True:
            await self._room.acquire()
            position, query = next(self._waiting, (None, None))
            if position is None or query is None:
                return
            try:
                answer = await self._answer(query)
            except _UnansweredError as error:
                cause = error.__cause__
                self._failed.append(cause if isinstance(cause, Exception) else error)
                self._failed_in_a_row += 1
                self._room.release()
                if self._failed_in_a_row >= max(_LEAST_FAILURES, self._judge.concurrency):
                    raise JudgeError(
                        f"{self._where()} has stopped answering "
                        f"({self._sentence(self._failed[-1])}): what it answered is stored; run it "
                        "again when the server is back."
                    ) from None
                continue
            self._failed_in_a_row = 0
            self._results.put((position, answer))

    async def _answer(self, query: Query) -> Answer:
        text = ""
        for _ in range(2):
            try:
                text, alternatives = await self._reply(query)
            except _FilteredError:
                return Answer(None, "refused by the server's content filter")
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
        except _FilteredError:
            raise
        except Exception as error:
            # Servers repeat keys in their errors, so that none may be chained to ours. Before the
            # first answer, what one question meets is taken for what all would meet.
            if self._passes(error) or (judge._understood and not self._ends(error)):
                raise _UnansweredError from error
            raise self._refused(error) from None
        raise AssertionError("tenacity ends with a result or an exception")

    async def _request(self, query: Query) -> tuple[str, list[tuple[str, float]] | None]:
        from openai import BadRequestError, UnprocessableEntityError

        judge = self._judge
        options = self._options()
        judge.usage.asked += 1
        try:
            completion: Any = await asyncio.wait_for(
                self._client.chat.completions.create(
                    model=judge.model,
                    messages=judge.prompts.messages(query),  # type: ignore[arg-type]
                    extra_body=judge.extra_body or None,
                    **options,
                ),
                judge.timeout,
            )
        except asyncio.TimeoutError:
            raise ValueError(f"no whole reply within {judge.timeout:g} seconds") from None
        except (BadRequestError, UnprocessableEntityError) as error:
            refused = self._refused_option(error, options)
            if refused is not None:
                judge._refused_options.add(refused)
                return await self._request(query)
            if (
                "content_filter" in f"{error.code} {error}"
                or error.code == "content_policy_violation"
            ):
                raise _FilteredError from None
            raise
        return self._read(completion)

    def _options(self) -> dict[str, Any]:
        judge = self._judge
        refused = judge._refused_options
        options: dict[str, Any] = {} if "temperature" in refused else {"temperature": 0.0}
        if judge.max_tokens is not None:
            name = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
            options[name] = judge.max_tokens
        if "logprobs" not in refused:
            options |= {"logprobs": True, "top_logprobs": _ALTERNATIVES}
        return options

    def _refused_option(self, error: Exception, options: Mapping[str, Any]) -> str | None:
        """Return which option to do without, None if none of them is to blame."""
        text = str(error)
        for word, option in _DISPENSABLE.items():
            if word in text and option in options:
                return option
        # Some servers do not say what they dislike; later on it is the question.
        return "logprobs" if "logprobs" in options and not self._judge._understood else None

    def _read(self, completion: Any) -> tuple[str, list[tuple[str, float]] | None]:
        """Take a completion apart; ValueError where it is none."""
        try:
            (choice, *_) = completion.choices
            text = choice.message.content or ""
            usage = completion.usage
            ended = getattr(choice, "finish_reason", None)
            if not isinstance(text, str):
                raise TypeError("the reply is no text")
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError("the body is no chat completion") from error
        if usage is not None:
            self._judge.usage.prompt_tokens += _count(usage, "prompt_tokens")
            self._judge.usage.completion_tokens += _count(usage, "completion_tokens")
        if ended == "length" and ("<think>" in text or not text) and "</think>" not in text:
            raise _CutOffError(
                "the reply ended within the model's thoughts; raise max_tokens, or turn thinking "
                "off with extra_body"
            )
        self._judge._understood = True
        if "<think>" in text or "</think>" in text:
            return text, None
        return text, _first_word(choice)

    def _passes(self, error: BaseException) -> bool:
        """Whether the same request may succeed later."""
        from openai import APIConnectionError, APIError, APIStatusError

        if isinstance(error, APIStatusError):
            self._judge._reached = True
            if error.code == "insufficient_quota":
                return False
            return error.status_code in _PASSING or error.status_code >= 500
        if isinstance(error, APIConnectionError):
            return not self._is_unreachable(error)
        return isinstance(error, (APIError, ValueError))

    def _is_unreachable(self, error: Exception) -> bool:
        # Nobody listens: waiting helps only a server that has been there.
        name = type(error.__cause__).__name__
        nobody = name in {"ConnectError", "ConnectTimeout", "UnsupportedProtocol"}
        return nobody and not (self._judge._reached or self._judge._understood)

    def _ends(self, error: Exception) -> bool:
        """Whether all other questions would fail likewise."""
        quota = getattr(error, "code", None) == "insufficient_quota"
        status = getattr(error, "status_code", None)
        return quota or status in _ENDING or self._is_unreachable(error)

    def _pause(self, state: Any) -> float:
        from tenacity import wait_random_exponential

        judge = self._judge
        pause = float(
            wait_random_exponential(multiplier=judge.first_pause, max=judge.longest_pause)(state)
        )
        response = getattr(state.outcome.exception(), "response", None)
        wanted = "" if response is None else response.headers.get("retry-after", "")
        return max(pause, min(_seconds(wanted), judge.longest_pause))

    def _refused(self, error: Exception) -> JudgeError:
        status = getattr(error, "status_code", None)
        advice = {
            401: f"check the key in the environment variable {self._judge.api_key_env!r}",
            403: f"check the key in the environment variable {self._judge.api_key_env!r}",
            404: f"check the address, and that it has a model {self._judge.model!r}",
            None: "check that it runs, and its address",
        }.get(status, "check the model, the options and the account")
        if isinstance(error, _CutOffError):
            return JudgeError(f"{self._where()} gave no answer: {error}.")
        return JudgeError(f"{self._where()} refused: {self._sentence(error)}; {advice}.")

    def _where(self) -> str:
        return f"The server {str(self._client.base_url)!r}"

    def _sentence(self, error: Exception) -> str:
        """Return an error in one line, without the key that some servers repeat."""
        text = " ".join(str(error).split()) or type(error).__name__
        cause = error.__cause__
        if cause is not None and str(cause) and str(cause) not in text:
            text += f" {cause}"
        key = self._client.api_key
        # Cut last: a cut within the key would hide the rest of it from the search.
        return (text.replace(key, "***") if key and key != "none" else text)[:300]


def _seconds(wanted: str) -> float:
    """Return a Retry-After header in seconds; 0 if it is neither a number nor a date."""
    with suppress(ValueError):
        return float(wanted)
    with suppress(ValueError, TypeError):
        return parsedate_to_datetime(wanted).timestamp() - time.time()
    return 0.0


def _count(usage: Any, name: str) -> int:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) else 0


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
