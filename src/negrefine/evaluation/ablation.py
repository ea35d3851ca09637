"""The ablation of the NegRefine paper: NegFilter off and on, S_MM off and on, from one fit."""

from __future__ import annotations

from negrefine.detectors import Detector
from negrefine.detectors.negfilter import PROPER_NOUN, SUBCATEGORY
from negrefine.detectors.negrefine import NegRefine
from negrefine.errors import InputError


def ablation_of(detector: NegRefine, *, single_filters: bool = False) -> dict[str, Detector]:
    """Return NegRefine with and without NegFilter, with and without S_MM, by name.

    Nothing is mined again. `single_filters` adds the proper-noun filter alone and the subcategory
    filter alone, which ask the judge again. "no filter, no S_MM" has CSP's score on NegRefine's
    pool, "NegFilter + S_MM" is `detector` itself, which was fitted with the filter on. InputError
    if it has alpha = 0 and so no S_MM.
    """
    if "multi_match" not in detector.part_names_:
        raise InputError("The ablation needs S_MM: fit NegRefine with alpha greater than 0.")
    filtered = {"no filter": detector.with_filter("none")}
    if single_filters:
        for name, question in (("proper nouns", PROPER_NOUN), ("subcategories", SUBCATEGORY)):
            filtered[f"NegFilter ({name})"] = detector.with_filter(
                detector.judge, filters=(question,), keep=detector.keep, drop=detector.drop
            )
    filtered["NegFilter"] = detector
    variants: dict[str, Detector] = {}
    for name, variant in filtered.items():
        variants[f"{name}, no S_MM"] = variant.with_params(alpha=0)
        variants[f"{name} + S_MM"] = variant
    return variants
