"""Questions that NegFilter needs under each option, on the recorded answers of the published run.

Every row runs the whole filter over the 8,425 cleaned labels with the recorded candidates and
answers, and compares what is kept with the published 6,370 labels. The recorded answers are those
of Qwen2.5-14B-Instruct-1M. The log of a word ends at its first yes, so asking ten ranks at once
costs no more questions here than asking rank by rank. A question that was not recorded counts as
undecided, which keeps the label, so rows with other questions than the published run give a
lower bound on removals.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from negrefine.detectors.negfilter import FilterRules, filter_labels
from negrefine.judges.base import Answer, Judge, Query, Usage, answer_all
from negrefine.judges.cascade import CascadeJudge
from negrefine.judges.replay import ReplayJudge
from negrefine.judges.wordnet import WordNetJudge
from negrefine.judges.wordnet_candidates import with_wordnet_candidates
from negrefine.labels.negatives import NegativeLabel

DEFAULT_REFERENCE = Path("../shared/reference/negrefine_imagenet_seed0")


class Counted:
    """Counts the questions to a judge; a question about several names is one."""

    def __init__(self, judge: Judge, ranks_per_round: int = 1) -> None:
        self._judge = judge
        self.name = judge.name
        self.ranks_per_round = ranks_per_round
        self.usage = Usage()

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        return answer_all(self, [Query(word) for word in words])

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        return answer_all(self, [Query(word, (name,)) for word, name in pairs])

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[list[tuple[int, Answer]]]:
        self.usage.asked += len(queries)
        yield list(enumerate(answer_all(self._judge, queries)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, default=DEFAULT_REFERENCE)
    reference = parser.parse_args().reference
    logs = [reference / f"llm_process_{pos}.txt.gz" for pos in ("noun", "adj")]
    recorded = ReplayJudge(*logs)
    class_names = sorted({name for names in recorded.candidates.values() for name in names})
    words = list(recorded.recorded)
    labels = [NegativeLabel(w, w, w, "noun", "", 0.0) for w in words]
    # A proper noun was removed before its candidates were recorded.
    ten = [list(dict.fromkeys(recorded.candidates[word])) for word in words]

    def run(
        name: str,
        candidates: list[list[str]],
        *,
        ranks_per_round: int = 1,
        names_per_question: int = 1,
        cascade: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        llm = Counted(recorded, ranks_per_round)
        judge = llm if cascade is None else CascadeJudge([WordNetJudge(), llm], trust=cascade)
        refined, trail = filter_labels(
            labels, candidates, judge, FilterRules(names_per_question=names_per_question)
        )
        kept = {label.text for label in refined if label.kept}
        undecided = sum(question.yes is None for question in trail)
        print(
            f"| {name} | {llm.usage.asked:,} | {llm.usage.asked / baseline:.3f} | {len(kept):,} "
            f"| {len(kept - published)} | {len(published - kept)} | {undecided:,} |"
        )

    baseline = recorded.n_questions
    published = {label.text for label in filter_labels(labels, ten, recorded)[0] if label.kept}
    print(f"{len(words):,} labels, {len(class_names)} class names asked about, published: ")
    print(f"{baseline:,} questions, {len(published):,} labels kept\n")
    print(
        "| option | questions to the model | share | kept | kept too many | removed too many "
        "| undecided |"
    )
    print("|---|---|---|---|---|---|---|")
    run("rank by rank", ten)
    run("all ten ranks in one round", ten, ranks_per_round=10)
    for n in (5, 10):
        run(f"{n} class names in one question", ten, names_per_question=n)
    for n in (1, 3, 5):
        run(f"{n} candidates", [names[:n] for names in ten])
        few = with_wordnet_candidates(words, [names[:n] for names in ten], class_names)
        run(f"{n} candidates and WordNet's", few)
    run("10 candidates and WordNet's", with_wordnet_candidates(words, ten, class_names))
    for trust in (("no",), ("yes",), ("yes", "no")):
        run(f"cascade after WordNet, its {' and '.join(trust)} stands", ten, cascade=trust)
    for trust in (("no",), ("yes", "no")):
        run(
            f"cascade, WordNet only on subcategories, its {' and '.join(trust)} stands",
            ten,
            cascade={"subcategory": trust},
        )
    run(
        "cascade, its no stands, 10 names in one question",
        ten,
        cascade=("no",),
        names_per_question=10,
    )


if __name__ == "__main__":
    main()
