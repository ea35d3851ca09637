"""Asking a chat server single questions, and what to do about its failures."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from negrefine.connections import connection_settings
from negrefine.errors import JudgeError
from negrefine.judges import server_errors
from negrefine.judges.base import Answer, Query
from negrefine.judges.chat_client import NO_KEY
from negrefine.judges.chat_reply import SHOWN_CHARACTERS, read_reply
from negrefine.judges.completion import FILTERED, NoAnswerError, Reply, read_body, read_completion
from negrefine.key_mask import KeyMask

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

    from negrefine.judges.openai import OpenAIJudge

_N_ALTERNATIVES = 10
_BAD_REQUEST = frozenset({400, 422})
# Options that a server may refuse and that are not essential, by the word in its error message.
_OPTIONAL = {"logprob": "logprobs", "max_tokens": "max_tokens", "temperature": "temperature"}
# This many failures without an answer in between mean that the server is dead.
_LEAST_FAILURES = 16


class UnansweredError(Exception):
    """A question failed permanently; the others continue."""


@dataclass
class ServerFacts:
    """What was learned about a server, across the calls of a judge.

    Attributes:
        reached: It has responded.
        understood: It has responded with a reply that could be used.
        refused: The options of requests that it refuses, perhaps "system role" among them.
    """

    reached: bool = False
    understood: bool = False
    refused: set[str] = field(default_factory=set)


class ChatAsker:
    """Asks single questions, within the event loop."""

    def __init__(self, judge: OpenAIJudge, client: AsyncOpenAI, server: ServerFacts) -> None:
        self.where = f"the server {str(client.base_url)!r}"
        self._judge = judge
        self._client = client
        self._server = server
        self.mask = KeyMask("" if client.api_key == NO_KEY else client.api_key)
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
            if reply.refusal:
                return Answer(None, self.mask(reply.refusal, 2 * SHOWN_CHARACTERS))
            if answer := self._read(reply):
                return answer
            text = reply.text
        return Answer(None, f"neither yes nor no, twice: {self.mask(text, SHOWN_CHARACTERS)!r}")

    def _read(self, reply: Reply) -> Answer | None:
        """Return the answer in a reply, None if it is neither yes nor no."""
        return read_reply(reply.text, reply.alternatives, self.mask)

    async def _reply(self, query: Query) -> Reply:
        judge = self._judge
        n_retries = 0
        while True:
            try:
                return await self._request(query)
            except Exception as error:
                # Servers repeat keys in their errors, so ours must not be chained to them.
                transient = server_errors.is_transient(error, reached=self._server.reached)
                if not transient or n_retries == judge.max_retries:
                    raise self._give_up(error, transient=transient) from None
                longest = min(judge.first_pause * 2 ** min(n_retries, 60), judge.longest_pause)
                pause = random.uniform(0, longest)  # noqa: S311
                pause = max(pause, min(server_errors.retry_after(error), judge.longest_pause))
            await asyncio.sleep(pause)
            n_retries += 1

    def _give_up(self, error: Exception, *, transient: bool) -> Exception:
        """Return what to raise: whether only this question or all questions fail."""
        text = server_errors.error_text(error, self.mask)
        judge = self._judge
        no_answer = isinstance(error, NoAnswerError)
        # Before the first answer, an error of one question is assumed to be one of all.
        known = self._server.understood and not server_errors.is_fatal(error)
        if transient or no_answer or known:
            self._failures_in_a_row += 1
            if self._failures_in_a_row < max(_LEAST_FAILURES, judge.concurrency):
                return UnansweredError(text)
            kept = "" if judge.store is None else "what it answered is stored; "
            problem = (
                f"gave replies without an answer only: {text}"
                if no_answer
                else f"has stopped answering ({text}): {kept}run it again when the server is back"
            )
        else:
            advice = server_errors.advice(error, judge.model, judge.api_key_env)
            problem = f"refused: {text}; {advice}"
            if not self._server.reached:
                settings = connection_settings(str(self._client.base_url), error)
                problem = f"cannot be reached: {text}; {advice}.{settings}".rstrip(".")
        self._fatal = JudgeError(f"T{self.where[1:]} {problem}.")
        return self._fatal

    async def _request(self, query: Query) -> Reply:
        from openai import APIConnectionError, APIStatusError

        judge = self._judge
        refused = self._server.refused
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
            content = response.http_response.content
            body = read_body(content)
            server_errors.raise_error_in(body, response.http_response)
            reply = read_completion(body, content)
        except asyncio.TimeoutError:
            raise ValueError(f"no whole reply within {judge.timeout:g} seconds") from None
        except RecursionError:
            # What could just be read may be too deep for what looks at it.
            raise NoAnswerError("the reply is nested too deeply") from None
        except APIConnectionError as error:
            if isinstance(error.__cause__, NoAnswerError):
                raise error.__cause__ from None
            raise
        except APIStatusError as error:
            self._server.reached = True
            refusal = self._refusal(error, {*options, "system role"} if system_role else {*options})
            if refusal is not None:
                refused.add(refusal)
                return await self._request(query)
            if error.status_code in _BAD_REQUEST and server_errors.is_filtered(error):
                return FILTERED
            raise
        self._server.reached = True
        judge.usage.prompt_tokens += reply.prompt_tokens
        judge.usage.completion_tokens += reply.completion_tokens
        if reply.problem:
            raise NoAnswerError(reply.problem)
        self._server.understood = True
        return reply

    def _refusal(self, error: APIStatusError, sent: set[str]) -> str | None:
        """Return which of the sent options the server refuses, None if it refuses something else.

        The option is one to do without from now on.
        """
        # A server that has answered, perhaps not yet when this question was sent, takes the role.
        open_question = not self._server.understood or "system role" in self._server.refused
        if "system role" in sent and open_question and server_errors.refuses_system_role(error):
            return "system role"
        if error.status_code not in _BAD_REQUEST:
            return None
        said = server_errors.words(error)
        named = [option for word, option in _OPTIONAL.items() if word in said]
        # Some servers do not name the option; after the first answer it is the question.
        candidates = named if self._server.understood else [*named, "logprobs"]
        return next((option for option in candidates if option in sent), None)
