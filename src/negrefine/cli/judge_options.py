"""The options of the judge of NegRefine's filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.cli.bundles import option
from negrefine.cli.given import Given
from negrefine.errors import InputError
from negrefine.files.reading import parse_json
from negrefine.similar_names import similar_names

if TYPE_CHECKING:
    from negrefine.judges.base import Judge

ANSWERS = option(
    None,
    "SQLite file that keeps every answer of a language model; default: in $NEGREFINE_CACHE or the "
    "user's cache directory.",
    "FILE",
)

JudgeMode = Enum("JudgeMode", {"PROBABILITY": "probability", "OFFICIAL": "official"}, type=str)


# The kinds of judges that take an option.
_TAKERS = {
    **dict.fromkeys(
        ("judge_url", "judge_key", "concurrency", "max_tokens", "request_fields"), ("openai",)
    ),
    "judge_mode": ("hf",),
    "least_mass": ("hf",),
    "answers": ("hf", "openai"),
}


_VOTES = ("majority", "unanimous")


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    judge: str | None = option(
        None,
        "NegRefine's filter: 'wordnet' (offline, the default), 'none', 'hf:MODEL' (a language "
        "model, hub id or directory), 'openai:MODEL' (any server that speaks the OpenAI chat "
        "protocol), or 'replay:FILE' with answers in the official log format. 'wordnet+hf:MODEL' "
        "asks the model only what WordNet leaves open; 'majority:wordnet+hf:A+hf:B' and "
        "'unanimous:A+B' ask all and let them vote.",
        "JUDGE",
    )


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """The options that go with a judge."""

    judge_url: str | None = option(
        None,
        "Server of 'openai:MODEL', such as http://localhost:8000/v1. The key is read from the "
        "environment variable named by --judge-key.",
        "URL",
    )
    judge_key: str | None = option(
        None, "Environment variable with the server's key; default: OPENAI_API_KEY.", "VARIABLE"
    )
    concurrency: int | None = option(
        None, "Largest number of open requests to a server; default: 16.", min=1
    )
    max_tokens: int | None = option(
        None,
        "Largest number of tokens of a server's reply, thoughts included; default: 16, 0: no "
        "limit. Raise it for a model that thinks.",
        min=0,
    )
    request_fields: str | None = option(
        None,
        "More fields of a request to a server, such as "
        '\'{"chat_template_kwargs": {"enable_thinking": false}}\'.',
        "JSON",
    )
    judge_mode: JudgeMode | None = option(
        None,
        "Of 'hf:MODEL': 'probability' (the default) compares P(yes) with P(no); 'official' "
        "generates text as published.",
    )
    least_mass: float | None = option(
        None,
        "Of 'hf:MODEL' in mode 'probability': the smallest P(yes) + P(no) that is an answer; below "
        "it, a question stays undecided; default: 0.5.",
    )
    answers: Path | None = ANSWERS

    def load_each(self, texts: Sequence[str], device: str, *, said: str = "--judge") -> list[Judge]:
        """Return the judges of several texts, no 'none' among them; options must fit one of them.

        A model in this process runs on `device`; `said` is what a wrong text was given for.
        """
        votes = [_vote(text) for text in texts]
        self._check_effects({part.partition(":")[0] for _, parts in votes for part in parts})
        return [
            self._load_vote(*vote, f"{said} must be", text, device)
            for vote, text in zip(votes, texts, strict=True)
        ]

    def _load_vote(
        self, rule: str | None, parts: list[str], must_be: str, text: str, device: str
    ) -> Judge:
        from negrefine.judges.cascade import CascadeJudge
        from negrefine.judges.vote import VoteJudge

        judges = [self._load_one(part, must_be, text, device) for part in parts]
        if rule is not None:
            return VoteJudge(judges, rule=rule)
        return judges[0] if len(judges) == 1 else CascadeJudge(judges)

    def _load_one(self, text: str, must_be: str, whole: str, device: str) -> Judge:
        from negrefine.judges.causal_lm import check_local_model
        from negrefine.judges.hf import HFJudge
        from negrefine.judges.openai import OpenAIJudge
        from negrefine.judges.replay import ReplayJudge
        from negrefine.judges.wordnet import WordNetJudge

        kind, _, argument = text.partition(":")
        store = self.answers or "default"
        if text == "wordnet":
            return WordNetJudge()
        if kind == "replay" and argument:
            return ReplayJudge(*argument.split(","))
        if kind == "hf" and argument:
            # The model itself is loaded when there are questions, after minutes of other work.
            check_local_model(argument)
            mode = self.judge_mode or JudgeMode.PROBABILITY
            mass: dict[str, Any] = (
                {} if self.least_mass is None else {"least_mass": self.least_mass}
            )
            return HFJudge(argument, device=device, mode=mode.value, store=store, **mass)
        if kind == "openai" and argument:
            return OpenAIJudge(argument, self.judge_url, store=store, **self._server_options())
        raise InputError(
            f"{must_be} 'wordnet', 'none', 'hf:MODEL', 'openai:MODEL', 'replay:FILE' or "
            f"several of them joined by '+', not {whole!r}{_meant(text)}"
        )

    def _check_effects(self, kinds: set[str]) -> None:
        """Raise InputError for an option that none of the judges, given by kind, takes."""
        for name, takers in _TAKERS.items():
            if name in self._taken_elsewhere():
                continue
            if getattr(self, name) is not None and kinds.isdisjoint(takers):
                judges = " or ".join(f"{kind}:MODEL" for kind in takers)
                raise InputError(
                    f"--{name.replace('_', '-')} has no effect without {self._takers(name)} "
                    f"{judges}: leave it out."
                )

        if self.least_mass is not None and self.judge_mode is JudgeMode.OFFICIAL:
            raise InputError(
                "--least-mass has no effect with --judge-mode official, which generates text: "
                "leave it out."
            )

    def _taken_elsewhere(self) -> tuple[str, ...]:
        """Return the options that something else than a judge takes."""
        return ()

    def _takers(self, name: str) -> str:  # noqa: ARG002
        """Return which options may name something that takes an option."""
        return "--judge"

    def _server_options(self) -> dict[str, Any]:
        """Return the options that were given, as `OpenAIJudge` takes them."""
        options = {"api_key_env": self.judge_key, "concurrency": self.concurrency}
        given: dict[str, Any] = {name: v for name, v in options.items() if v is not None}
        if self.max_tokens is not None:
            given["max_tokens"] = self.max_tokens or None
        if self.request_fields is not None:
            given["extra_body"] = _json_object("--request-fields", self.request_fields)
        return given


@dataclass(frozen=True, kw_only=True)
class JudgeOptions(JudgeSettings, _Chosen):
    """--judge and the options that go with it."""

    def given(self, device: str) -> dict[str, Given]:
        """Return the judge as a parameter, empty without --judge."""
        judge = self.load(device)
        return {} if judge is None else {"judge": Given("--judge", judge)}

    def load(self, device: str) -> Judge | str | None:
        """Return what `NegRefine` takes as judge; a model in this process runs on `device`."""
        if self.judge is None or self.judge in {"wordnet", "none"}:
            self._check_effects(set())
            return self.judge
        return self.load_each([self.judge], device)[0]


def _json_object(option_name: str, text: str) -> dict[str, Any]:
    try:
        # What cannot be sent is refused by the judge.
        value = parse_json(text, allow_nan=True)
    except ValueError as error:
        problem = f"not JSON ({error})"
    else:
        if isinstance(value, dict):
            return value
        problem = "not a JSON object"
    raise InputError(
        f"{option_name} is {text!r}, which is {problem}: give one such as "
        '\'{"chat_template_kwargs": {"enable_thinking": false}}\'.'
    )


def _meant(text: str) -> str:
    """Return the end of a sentence: what the first wrong part of a judge probably means."""
    for part in text.split("+"):
        kind, _, argument = part.partition(":")
        takes = {"wordnet": "", "none": "", "hf": "MODEL", "openai": "MODEL", "replay": "FILE"}
        complete = kind in takes and bool(argument) == bool(takes[kind])
        similar = [] if complete else similar_names(kind, takes)
        if similar:
            argument = takes[similar[0]] and f":{argument or takes[similar[0]]}"
            return f": did you mean {similar[0] + argument!r}?"
    return "."


def _vote(text: str) -> tuple[str | None, list[str]]:
    """Return the rule of a vote, None for a cascade or a single judge, and the judges' texts."""
    rule, _, rest = text.partition(":")
    return (rule, _parts(rest)) if rule in _VOTES else (None, _parts(text))


def _parts(text: str) -> list[str]:
    """Split at every "+" that a judge follows; a model's or a file's name may hold others."""
    parts: list[str] = []
    for piece in text.split("+"):
        if parts and not piece.startswith(("wordnet", "replay:", "hf:", "openai:", "none")):
            parts[-1] += f"+{piece}"
        else:
            parts.append(piece)
    return parts
