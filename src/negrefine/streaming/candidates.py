"""TANL's further candidates: the words of a lexicon that mining left out."""

from __future__ import annotations

import numpy as np

from negrefine.detectors.negative_labels import MinedLabelDetector
from negrefine.errors import InputError
from negrefine.labels.embedding import embed
from negrefine.labels.mining import MiningRule, candidate_pool
from negrefine.labels.negatives import Negatives


def lexicon_candidates(detector: MinedLabelDetector, *, progress: bool = False) -> Negatives:
    """Return all words of a fitted detector's lexicon that it did not mine, nouns first.

    For TANL, whose candidates are all words and not the least similar ones alone. No filter has
    judged these words: with NegRefine as the base only the labels it mined are cleaned. Encoding
    all of WordNet takes a while.

    Raises InputError if the detector has mined every word.
    """
    names = detector.class_names_
    # A loaded detector may not have the lexicon it was fitted with.
    detector.check_parameters(["lexicon"])
    superclasses = tuple(getattr(detector, "superclasses", ()))
    rule = MiningRule(
        superclasses=superclasses,
        clean_underscores=detector.clean_underscores,
        exclude_class_names=detector.exclude_class_names,
    )
    lexicon = detector.selected_lexicon()
    pool = candidate_pool(lexicon, names, rule, int(getattr(detector, "seed", 0)))
    mined = {(label.word, label.pos) for label in detector.negatives_.labels}
    labels, features = [], []
    prompts = detector.prompts_
    for pos, templates in (("noun", prompts.noun), ("adj", prompts.adjective)):
        found = [each for each in pool if each.pos == pos and (each.word, pos) not in mined]
        if found:
            labels += found
            texts = [each.text for each in found]
            features.append(
                embed(
                    detector.encoder,
                    texts,
                    templates,
                    description="Encoding further candidates",
                    progress=progress,
                )
            )
    if not labels:
        raise InputError("The detector has mined every word of its lexicon: leave further out.")
    return Negatives(tuple(labels), np.concatenate(features))
