"""Count what WordNet proposes for a list of classes, and what the rules and NegFilter leave of it.

    python benchmarks/proposals.py [--classes imagenet-1k] [--n 5] [--encoder builtin]

The class names that NegFilter asks about are the nearest to the encoder, so its share depends on
the encoder a little; the judge is the bundled WordNet.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter

import negrefine
from negrefine.benchmarks import class_list
from negrefine.detectors.negfilter import FilterRules
from negrefine.detectors.proposed import Proposed, only_proposed, outcomes, propose
from negrefine.detectors.proposed_filter import filter_proposed
from negrefine.judges.word_finder import WordFinder
from negrefine.judges.wordnet import WordNetJudge
from negrefine.labels.embedding import embed
from negrefine.labels.wordnet import WordNet
from negrefine.proposers.wordnet import WordNetProposer


def judged(
    proposer: WordNetProposer, class_names: list[str], n: int, encoder: negrefine.Encoder
) -> list[Proposed]:
    """Return every proposal with what became of it."""
    proposals = propose(proposer, class_names, n)
    features = embed(encoder, class_names, ("{}",))
    proposed = only_proposed(proposals, features, encoder, ("{}",))
    negatives, _ = filter_proposed(
        proposed, class_names, WordNetJudge(), FilterRules(), encoder=encoder, templates=("{}",)
    )
    return outcomes(proposals, negatives, filtered=True)


def kind(line: Proposed) -> str:
    """Return why a proposal went, in a few words, or "kept"."""
    if line.kept:
        return "kept"
    for beginning in ("is a class name", "shares the word", "was proposed for", "subcategory of"):
        if line.reason.startswith(beginning):
            return beginning
    return line.reason.partition(":")[0]


def main(classes: str, n: int, encoder_name: str, n_examples: int) -> None:
    """Print the counts and some examples."""
    warnings.simplefilter("ignore")
    names = class_list(classes)
    encoder = negrefine.load_encoder(encoder_name, device="cpu")
    wordnet = WordNet.load()
    finder = WordFinder(wordnet)
    start = time.perf_counter()
    proposer = WordNetProposer()
    found = proposer.propose_similar(names, n)
    seconds = time.perf_counter() - start
    senses = proposer.senses(names)
    different = {name for each in found.values() for name in each}
    print(f"{len(names)} class names, {len(set(names))} different, {n} proposals each")
    print(f"no sense in WordNet: {sum(each.row is None for each in senses)}")
    print(f"several senses: {sum(len(each.among) > 1 for each in senses)}")
    moved = [each for each in senses if each.among and each.row != each.among[0]]
    print(f"another sense than the first: {len(moved)}")
    print(f"proposals: {sum(map(len, found.values()))}, {len(different)} different names")
    print(f"names without any: {sum(not found[name] for name in found)}")
    print(f"seconds: {seconds:.2f}")
    covered = {row for name in names for row in finder.class_rows(name)}
    wrong = [
        name
        for name in different
        if all(covered & wordnet.above(row) for row in wordnet.rows(name, pos="noun"))
    ]
    print(f"kinds of a class in every sense: {len(wrong)}")
    for title, each in (
        ("as it is", proposer),
        ("without overlap", WordNetProposer(overlap=False)),
    ):
        lines = judged(each, names, n, encoder)
        print(f"{title}: {len(lines)} proposals; {dict(Counter(map(kind, lines)).most_common())}")
        if each is proposer:
            kept = [line for line in lines if line.kept]
            step = max(1, len(kept) // n_examples)
            for line in kept[step // 2 :: step][:n_examples]:
                print(f"  {line.class_name}: {line.text}")
            for line in [line for line in lines if kind(line) == "subcategory of"][::40]:
                print(f"  removed {line.class_name}: {line.text} ({line.reason[:70]})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", default="imagenet-1k")
    parser.add_argument("--n", type=int, default=5)
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--examples", type=int, default=30)
    arguments = parser.parse_args()
    main(arguments.classes, arguments.n, arguments.encoder, arguments.examples)
