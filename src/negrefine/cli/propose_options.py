"""The options of the judge and of the proposer of negative labels, which share a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from negrefine.cli.bundles import option
from negrefine.cli.given import Given
from negrefine.cli.judge_options import JudgeOptions
from negrefine.detectors import VSNL
from negrefine.errors import InputError
from negrefine.similar_names import similar_names

if TYPE_CHECKING:
    from negrefine.proposers.base import Proposer

_KINDS = {"wordnet": "", "hf": "MODEL", "openai": "MODEL", "replay": "FILE"}
# The options of a judge that a proposer of a kind takes, too.
_TAKES = {
    "openai": ("judge_url", "judge_key", "concurrency", "max_tokens", "request_fields", "answers"),
    "hf": ("answers",),
}


@dataclass(frozen=True, kw_only=True)
class ProposeOptions(JudgeOptions):
    """--propose beside --judge and the options that go with both."""

    propose: str | None = option(
        None,
        "Propose negative labels that look like the classes: 'wordnet' (offline), 'hf:MODEL' or "
        "'openai:MODEL' (a language model, with the options of such a judge), or 'replay:FILE' "
        "(JSON). Default: none.",
        "PROPOSER",
    )

    def given(self, device: str) -> dict[str, Given]:
        """Return judge and proposer as parameters, without what was not given."""
        given = super().given(device)
        if self.propose is not None:
            given["propose"] = Given("--propose", self._load_proposer(self.propose, device))
        return given

    def _taken_elsewhere(self) -> tuple[str, ...]:
        return _TAKES.get((self.propose or "").partition(":")[0], ())

    def _takers(self, name: str) -> str:
        proposers = any(name in names for names in _TAKES.values())
        return "--judge or --propose" if proposers else super()._takers(name)

    def _load_proposer(self, text: str, device: str) -> Proposer | str:
        from negrefine.judges.causal_lm import check_local_model
        from negrefine.proposers.hf import HFProposer
        from negrefine.proposers.openai import OpenAIProposer
        from negrefine.proposers.replay import ReplayProposer

        kind, _, argument = text.partition(":")
        store: Any = self.answers or "default"
        if text == "wordnet":
            return text
        if kind == "replay" and argument:
            return ReplayProposer(argument)
        if kind == "hf" and argument:
            check_local_model(argument)
            return HFProposer(argument, device=device, store=store)
        if kind == "openai" and argument:
            return OpenAIProposer(argument, self.judge_url, store=store, **self._server_options())
        raise InputError(
            "--propose must be 'wordnet', 'hf:MODEL', 'openai:MODEL' or 'replay:FILE', not "
            f"{text!r}{_meant(kind, argument)}"
        )


def check_proposed(given: Mapping[str, Given], methods: Sequence[str]) -> None:
    """Raise InputError for an option about proposals if none of the methods has any."""
    if VSNL.method in methods:
        # It asks WordNet unless another proposer is named.
        return
    for name in ("n_proposed", "proposal_kind"):
        if name in given and "propose" not in given:
            raise InputError(
                f"{given[name].option} has no effect without --propose: leave it out, or name who "
                "proposes."
            )


def _meant(kind: str, argument: str) -> str:
    similar = similar_names(kind, _KINDS)
    if not similar or (kind == similar[0] and not _KINDS[kind]):
        return "."
    takes = _KINDS[similar[0]]
    meant = f"{similar[0]}:{argument or takes}" if takes else similar[0]
    return f": did you mean {meant!r}?"
