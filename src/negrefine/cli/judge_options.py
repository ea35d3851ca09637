"""The options of the judge of NegRefine's filter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from negrefine.cli.bundles import option
from negrefine.cli.method_options import Given
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.judges.base import Judge

ANSWERS = option(
    None,
    "SQLite file that keeps every answer of a language model; default: in $NEGREFINE_CACHE or the "
    "user's cache directory.",
    "FILE",
)

JudgeMode = Enum("JudgeMode", {"PROBABILITY": "probability", "OFFICIAL": "official"}, type=str)


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """--judge and the options that go with it."""

    judge: str | None = option(
        None,
        "NegRefine's filter: 'wordnet' (offline, the default), 'none', 'hf:MODEL' (a language "
        "model, hub id or directory), 'openai:MODEL' (any server that speaks the OpenAI chat "
        "protocol), or 'replay:FILE' with answers in the official log format. 'wordnet+hf:MODEL' "
        "asks the model only what WordNet leaves open.",
        "JUDGE",
    )
    judge_url: str | None = option(
        None,
        "Server of 'openai:MODEL', such as http://localhost:8000/v1. The key is read from the "
        "environment variable named by --judge-key.",
        "URL",
    )
    judge_key: str = option(
        "OPENAI_API_KEY", "Environment variable with the server's key.", "VARIABLE"
    )
    concurrency: int = option(16, "Largest number of open requests to a server.", min=1)
    judge_mode: JudgeMode = option(
        JudgeMode.PROBABILITY,
        "'probability' compares P(yes) with P(no); 'official' generates text as published.",
    )
    answers: Path | None = ANSWERS

    def given(self, device: str) -> dict[str, Given]:
        """Return the judge as a parameter, empty without --judge."""
        judge = self.load(device)
        return {} if judge is None else {"judge": Given("--judge", judge)}

    def load(self, device: str) -> Judge | str | None:
        """Return what `NegRefine` takes as judge; a model in this process runs on `device`."""
        text = self.judge
        if self.judge_url is not None and (text is None or "openai:" not in text):
            raise InputError(
                "--judge-url has no effect without --judge openai:MODEL: leave it out."
            )
        if text is None or text in {"wordnet", "none"}:
            return text
        from negrefine.judges.cascade import CascadeJudge

        judges = [self._load_one(part, device) for part in _parts(text)]
        return judges[0] if len(judges) == 1 else CascadeJudge(judges)

    def _load_one(self, text: str, device: str) -> Judge:
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
            return HFJudge(argument, device=device, mode=self.judge_mode.value, store=store)
        if kind == "openai" and argument:
            return OpenAIJudge(
                argument,
                self.judge_url,
                api_key_env=self.judge_key,
                concurrency=self.concurrency,
                store=store,
            )
        raise InputError(
            "--judge must be 'wordnet', 'none', 'hf:MODEL', 'openai:MODEL', 'replay:FILE' or "
            f"several of them joined by '+', not {self.judge!r}."
        )


def _parts(text: str) -> list[str]:
    """Split at every "+" that a judge follows; a model's or a file's name may hold others."""
    parts: list[str] = []
    for piece in text.split("+"):
        if parts and not piece.startswith(("wordnet", "replay:", "hf:", "openai:", "none")):
            parts[-1] += f"+{piece}"
        else:
            parts.append(piece)
    return parts
