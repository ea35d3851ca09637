"""CSP: conjugated semantic pool (NeurIPS 2024, arXiv 2410.08611)."""

from __future__ import annotations

from collections.abc import Sequence

from negrefine.constraints import SEED
from negrefine.detectors.negative_labels import NegativeLabelDetector
from negrefine.detectors.parameters import detector, parameter, redeclared
from negrefine.labels.mining import CONSTRAINTS
from negrefine.labels.prompts import CSP_PROMPTS, SUPERCLASS_TEMPLATES


@detector
class CSP(NegativeLabelDetector):
    """NegLabel's score on a pool in which adjectives become phrases like "gooey landscape".

    Example:
        >>> detector = negrefine.CSP(encoder, lexicon=lexicon, n_groups=10).fit(names)
        >>> [label.text for label in detector.negatives_.kept if label.pos == "adj"][:2]
        ['traditional scene', 'familiar scene']
        >>> known, strange = map(detector.score_samples, (animals, food))
        >>> negrefine.metrics.auroc(known, strange) > 0.9
        True
    """

    method = "csp"
    title = "CSP"
    paper = "NeurIPS 2024, arXiv 2410.08611"
    seed_parameter = "group_seed"
    compared = True
    default_prompts = CSP_PROMPTS
    official_files = "official-csp"

    superclasses: Sequence[str] = parameter(
        SUPERCLASS_TEMPLATES,
        CONSTRAINTS["superclasses"],
        "Templates that make phrases of adjectives; `seed` draws one for each.",
        on_command_line=False,
    )
    similarity_cap: float | None = redeclared(NegativeLabelDetector, "similarity_cap", 0.95)
    group_seed: int = parameter(
        0, SEED, "Seed of the assignment to groups; the official code always uses 0."
    )
