"""What the directory of a saved detector says, without its encoder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from negrefine.detectors.bundle import MANIFEST, Arrays, Tables, damaged, read_bundle, version_of
from negrefine.detectors.card_words import is_path
from negrefine.detectors.proposed import PROPOSED, Proposed, read_proposals, read_questions
from negrefine.detectors.registry import saved_methods
from negrefine.detectors.saved_form import FACTS
from negrefine.labels.negatives import NegativeLabel
from negrefine.proposers.base import WORDNET_PROPOSER


@dataclass(frozen=True)
class Described:
    """What a directory says of its detector.

    Attributes:
        manifest: detector.json.
        arrays: The arrays.
        tables: Rows of tables by name.
        labels: All negative labels, None for a method without.
        proposals: What was proposed, and what became of it.
        n_answers: How many questions a judge was asked.
        checksum: Of detector.json, which holds those of the other files.
    """

    manifest: Mapping[str, Any]
    arrays: Arrays
    tables: Tables
    labels: Sequence[NegativeLabel] | None
    proposals: Sequence[Proposed]
    n_answers: int
    checksum: str

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Described:
        """Read a directory; BundleError as `load_detector`, but for the encoder."""
        directory = Path(path)
        manifest, arrays, tables = read_bundle(directory)
        checksum = version_of(directory)
        try:
            FACTS(MANIFEST, manifest)
            rows = tables.get("negative_labels")
            labels = None if rows is None else [NegativeLabel.from_row(row) for row in rows]
            audit = tables.get("audit", [])
            proposals, n_answers = read_proposals(audit), len(read_questions(audit))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise damaged(directory, f"its parts do not fit together: {error}") from error
        return cls(manifest, arrays, tables, labels, proposals, n_answers, checksum)

    @property
    def title(self) -> str:
        """The method as in tables."""
        method = str(self.manifest["method"])
        known = saved_methods().get(method)
        return known.title or method if known else method

    @property
    def paper(self) -> str:
        """Where the method was published, "" if that is not known."""
        known = saved_methods().get(str(self.manifest["method"]))
        return known.paper if known else ""

    @property
    def encoder(self) -> str:
        """The encoder's name."""
        return str(self.manifest["encoder"]["name"])

    @property
    def lexicon(self) -> str:
        """The name of the lexicon that labels were mined from, "" if none were."""
        if all(each.lexname == PROPOSED for each in self.labels or ()):
            return ""
        given = self.manifest["parameters"].get("lexicon")
        return str(given["unsaved"]) if isinstance(given, Mapping) else "wordnet-3.1"

    @property
    def proposers(self) -> list[str]:
        """Who proposed negative labels."""
        named = {each.proposal.by for each in self.labels or () if each.proposal is not None}
        return sorted(named | {each.by for each in self.proposals})

    @property
    def judge(self) -> str | None:
        """The name of the judge of a method with a filter, None for other methods."""
        parameters = self.manifest["parameters"]
        if "judge" not in parameters:
            return None
        given = parameters["judge"]
        return str(given["unsaved"] if isinstance(given, Mapping) else given or "wordnet")

    @property
    def paths(self) -> list[str]:
        """Paths of the machine that it was made on, which others cannot use and may now read."""
        named = [self.encoder, self.lexicon, self.judge or "", *self.proposers]
        return [name for name in named if is_path(name)]

    @property
    def chosen_on_images(self) -> bool:
        """Whether some of its constants were chosen on images."""
        return "tuning" in self.manifest or any(
            name.startswith("chosen_on.") for name in self.arrays
        )

    @property
    def has_wordnet_words(self) -> bool:
        """Whether its labels are words of WordNet."""
        return self.lexicon.startswith("wordnet-3.1") or WORDNET_PROPOSER in self.proposers
