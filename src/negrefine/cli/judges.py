"""What --judge and its companions mean."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.judges.base import Judge

JUDGE_HELP = (
    "NegRefine's filter: 'wordnet' (offline, the default), 'none', 'hf:MODEL' (a language model, "
    "hub id or directory), 'openai:MODEL' (any server that speaks the OpenAI chat protocol), or "
    "'replay:FILE' with answers in the official log format. 'wordnet+hf:MODEL' asks the model only "
    "what WordNet leaves open."
)


class JudgeMode(str, Enum):
    """How a language model in this process answers."""

    PROBABILITY = "probability"
    OFFICIAL = "official"


JudgeName: TypeAlias = Annotated[str | None, typer.Option(metavar="JUDGE", help=JUDGE_HELP)]
JudgeUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Server of 'openai:MODEL', such as http://localhost:8000/v1. The key is read from "
        "the environment variable named by --judge-key.",
    ),
]
JudgeKey: TypeAlias = Annotated[
    str, typer.Option(metavar="VARIABLE", help="Environment variable that holds the server's key.")
]
Concurrency: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Questions to a server that may be open at a time.")
]
Mode: TypeAlias = Annotated[
    JudgeMode,
    typer.Option(
        help="'probability' compares P(yes) with P(no); 'official' generates text as published."
    ),
]
Answers: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="SQLite file that keeps every answer of a language model; default: in "
        "$NEGREFINE_CACHE or the user's cache directory.",
    ),
]


def parse_judge(
    text: str | None,
    *,
    url: str | None = None,
    key: str = "OPENAI_API_KEY",
    concurrency: int = 16,
    mode: JudgeMode = JudgeMode.PROBABILITY,
    answers: Path | None = None,
    device: str = "auto",
) -> Any:
    """Return what --judge means to `NegRefine`.

    Raises:
        InputError: Not a judge, or an option that means nothing to it.
    """
    if url is not None and (text is None or "openai:" not in text):
        raise InputError("--judge-url means nothing without --judge openai:MODEL: leave it out.")
    if text is None or text in {"wordnet", "none"}:
        return text
    judges: list[Judge] = []
    for part in _parts(text):
        kind, _, argument = part.partition(":")
        if part == "wordnet":
            from negrefine.judges.wordnet import WordNetJudge

            judges.append(WordNetJudge())
        elif kind == "replay" and argument:
            from negrefine.judges.replay import ReplayJudge

            judges.append(ReplayJudge.from_logs(argument.split(",")))
        elif kind == "hf" and argument:
            from negrefine.judges.hf import HFJudge

            store = answers or "default"
            judges.append(HFJudge(argument, device=device, mode=mode.value, store=store))
        elif kind == "openai" and argument:
            from negrefine.judges.openai import OpenAIJudge

            judges.append(
                OpenAIJudge(
                    argument,
                    url,
                    api_key_env=key,
                    concurrency=concurrency,
                    store=answers or "default",
                )
            )
        else:
            raise InputError(
                "--judge must be 'wordnet', 'none', 'hf:MODEL', 'openai:MODEL', 'replay:FILE' or "
                f"several of them joined by '+', not {text!r}."
            )
    if len(judges) == 1:
        return judges[0]
    from negrefine.judges.cascade import CascadeJudge

    return CascadeJudge(judges)


def _parts(text: str) -> list[str]:
    """Split at every "+" that a judge follows; a model's or a file's name may hold others."""
    parts: list[str] = []
    for piece in text.split("+"):
        if parts and not piece.startswith(("wordnet", "replay:", "hf:", "openai:", "none")):
            parts[-1] += f"+{piece}"
        else:
            parts.append(piece)
    return parts
