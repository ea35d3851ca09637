"""NegLabel: a softmax against mined negative labels (ICLR 2024, arXiv 2403.20078)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.negative_labels import NegativeLabelDetector
from negrefine.detectors.parameters import detector
from negrefine.detectors.scores import raw_sum_score
from negrefine.labels.prompts import NEGLABEL_PROMPTS

if TYPE_CHECKING:
    from torch import Tensor


@detector
class NegLabel(NegativeLabelDetector):
    """The probability of the classes in a softmax over classes and negative labels, by groups.

    With one group the released code returns the sum of scaled cosines, where the formula is lost;
    so does `official=True`.

    Example:
        >>> detector = negrefine.NegLabel(encoder, lexicon=lexicon, n_groups=10).fit(names)
        >>> known, strange = detector.score_samples(["cat.png", "doughnut.png"])
        >>> bool(known > strange)
        True
    """

    method = "neglabel"
    title = "NegLabel"
    paper = "ICLR 2024, arXiv 2403.20078"
    seed_parameter = "seed"
    compared = True
    default_prompts = NEGLABEL_PROMPTS
    official_files = "official-neglabel"
    clean_underscores = False

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:
        """Return S_NegLabel, or the sum of scaled cosines with one group."""
        if self.n_groups == 1 and self.official:
            return raw_sum_score(images.classes, self.logit_scale_)
        return super().compute_part(name, images)
