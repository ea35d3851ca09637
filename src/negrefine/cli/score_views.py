"""What `negrefine score` makes for people to look at: a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from negrefine.cli.bundles import option
from negrefine.cli.output import say
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.detectors import Detector
    from negrefine.evaluation.scored_image import ScoredImage


@dataclass(frozen=True, kw_only=True)
class ScoreViews:
    """The options, and what is done for them before and after images are scored."""

    report: Path | None = option(
        None,
        "Also write a page to look at: thumbnails with verdict, nearest names and score, flagged "
        "images first, to filter and search.",
        "FILE.html",
    )
    report_images: int | None = option(
        None, "Most images on the page; default: 1000.", min=1, name="--report-images"
    )

    def check(self) -> None:
        """Raise InputError for what cannot be written, before any work is done."""
        from negrefine.report.scores_page import check_scores_page

        if self.report is not None:
            check_scores_page(self.report)
        elif self.report_images is not None:
            raise InputError("--report-images has no effect without --report: leave it out.")

    def write(self, rows: Sequence[ScoredImage], detector: Detector, name: str) -> None:
        """Write what was asked for about the rows of a detector called `name`."""
        from negrefine.report.scores_page import MAX_IMAGES, write_scores_page

        if self.report is not None:
            write_scores_page(
                rows,
                self.report,
                detector=detector,
                name=name,
                n_images=self.report_images or MAX_IMAGES,
                progress=True,
            )
            say(f"Wrote the page {self.report}.", err=True)
