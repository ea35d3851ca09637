"""Compares WordNetJudge with the recorded answers of the published NegRefine run.

The recorded answers are those of Qwen2.5-14B-Instruct-1M, with its errors: the numbers measure
agreement, not truth. Words are split into two halves by the parity of the last byte of their
SHA-256; the rules were designed on the development half only. The classes are the same in both.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from negrefine.judges.base import Answer, Judge, as_answers
from negrefine.judges.replay import ReplayJudge
from negrefine.judges.wordnet import WordNetJudge
from negrefine.labels.wordnet import WordNet

DEFAULT_REFERENCE = Path("../shared/reference/negrefine_imagenet_seed0")
HALVES = ("development", "held out")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of a judge's yes and no with the recorded ones; undecided counts as no."""

    n: int
    recorded_yes: int
    given_yes: int
    both_yes: int

    @property
    def precision(self) -> float:
        """Share of the judge's yes that are recorded as yes."""
        return self.both_yes / self.given_yes if self.given_yes else float("nan")

    @property
    def recall(self) -> float:
        """Share of the recorded yes to which the judge says yes."""
        return self.both_yes / self.recorded_yes if self.recorded_yes else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of equal answers."""
        return 1 - (self.recorded_yes + self.given_yes - 2 * self.both_yes) / self.n


class InstanceFlag:
    """Baselines: the instance flag of the most frequent sense, and bare hypernym closure."""

    name = "baseline"

    def __init__(self) -> None:
        self._wordnet = WordNet.load()

    def is_proper_noun(self, words: list[str]) -> list[bool]:
        """Return whether WordNet marks the most frequent sense as an instance."""
        rows = [self._wordnet.rows(word, pos="noun") for word in words]
        return [bool(found) and self._wordnet.is_instance(found[0]) for found in rows]

    def is_subcategory(self, pairs: list[tuple[str, str]]) -> list[bool]:
        """Return whether a sense of the exact class name is a hypernym of a sense of the word."""
        return [
            any(
                self._wordnet.chains(row).keys() & set(self._wordnet.rows(name, pos="noun"))
                for row in self._wordnet.rows(word, pos="noun")
            )
            for word, name in pairs
        ]


def half(word: str) -> str:
    """The half that a word belongs to."""
    return HALVES[hashlib.sha256(word.encode()).digest()[-1] % 2]


def compare(recorded: list[Answer], given: list[Answer]) -> Agreement:
    """Count the agreements of two lists of answers."""
    yes = [(bool(r.yes), bool(g.yes)) for r, g in zip(recorded, given, strict=True)]
    return Agreement(
        n=len(yes),
        recorded_yes=sum(r for r, _ in yes),
        given_yes=sum(g for _, g in yes),
        both_yes=sum(r and g for r, g in yes),
    )


def questions(replay: ReplayJudge, part: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The recorded words and distinct (word, class name) pairs of one half."""
    words = [word for word in replay.recorded if half(word) == part]
    pairs = [(w, name) for w in words for name in dict.fromkeys(replay.candidates[w])]
    return words, pairs


def agreements(judge: object, replay: ReplayJudge, part: str) -> tuple[Agreement, Agreement]:
    """Agreement of a judge on one half: proper nouns, subcategories."""
    words, pairs = questions(replay, part)

    def ask(method: str, asked: list[object]) -> list[Answer]:
        answer: Callable[[list[object]], list[Answer]] = getattr(judge, method)
        return as_answers(answer(asked), len(asked), judge)

    return (
        compare(replay.is_proper_noun(words), ask("is_proper_noun", list(words))),
        compare(replay.is_subcategory(pairs), ask("is_subcategory", list(pairs))),
    )


def kept(judge: Judge, replay: ReplayJudge) -> Iterator[str]:
    """Words that stay when `judge` is asked the recorded questions."""
    for word in replay.recorded:
        if as_answers(judge.is_proper_noun([word]), 1, judge)[0].yes:
            continue
        pairs = [(word, name) for name in replay.candidates[word]]
        if not any(a.yes for a in as_answers(judge.is_subcategory(pairs), len(pairs), judge)):
            yield word


def logs(reference: Path) -> list[Path]:
    """The two logs of the published run."""
    return [reference / f"llm_process_{kind}.txt.gz" for kind in ("noun", "adj")]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, default=DEFAULT_REFERENCE, metavar="DIR")
    reference = parser.parse_args().reference
    judges = (("WordNetJudge", WordNetJudge()), ("baseline", InstanceFlag()))
    both = ReplayJudge(*logs(reference))

    print(f"{'question':<14}{'words':<13}{'judge':<14}{'n':>7}{'yes':>6}{'prec.':>8}{'recall':>8}"
          f"{'accuracy':>10}")  # fmt: skip
    for number, question in enumerate(("proper noun", "subcategory")):
        for part in HALVES:
            for name, judge in judges:
                a = agreements(judge, both, part)[number]
                print(
                    f"{question:<14}{part:<13}{name:<14}{a.n:>7}{a.recorded_yes:>6}"
                    f"{a.precision:>8.3f}{a.recall:>8.3f}{a.accuracy:>10.4f}"
                )
    print(
        "baseline = instance flag of the most frequent sense; hypernym closure of the exact names"
    )
    for path in logs(reference):
        replay = ReplayJudge(path)
        ours, theirs = set(kept(judges[0][1], replay)), set(kept(replay, replay))
        same = len(replay.recorded) - len(ours ^ theirs)
        print(
            f"{path.name}: kept by WordNetJudge {len(ours)}, recorded {len(theirs)}, "
            f"same decision for {same} of {len(replay.recorded)}"
        )


if __name__ == "__main__":
    main()
