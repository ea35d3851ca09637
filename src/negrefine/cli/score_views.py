"""What `negrefine score` makes for people to look at: a page, and images sorted into folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from negrefine.cli.bundles import option
from negrefine.cli.output import counted, say
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.detectors import Detector
    from negrefine.evaluation.scored_image import ScoredImage


SortBy = Enum("SortBy", {"LINK": "link", "COPY": "copy"}, type=str)


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

    sort_into: Path | None = option(
        None,
        "Also put images into a folder for each class in DIR, flagged ones into none/ and those "
        "that cannot be read into unreadable/. DIR is new, empty, or was sorted into before.",
        "DIR",
        name="--sort-into",
    )
    sort_by: SortBy | None = option(
        None, "Put symbolic links or copies there; default: link.", name="--sort-by"
    )

    def check(self, images: Sequence[str], out: Path | None) -> None:
        """Raise InputError for what cannot be written, before any work is done.

        `out` is where the table of the results goes.
        """
        if self.report is None and self.report_images is not None:
            raise InputError("--report-images has no effect without --report: leave it out.")
        if self.sort_into is None and self.sort_by is not None:
            raise InputError("--sort-by has no effect without --sort-into: leave it out.")
        # First, because the others make the folders of the results.
        if self.sort_into is not None:
            self._check_sort_into(self.sort_into, images, out)
        if self.report is not None:
            from negrefine.report.scores_page import check_scores_page

            check_scores_page(self.report)

    def check_found(self, paths: Sequence[Path] | None) -> None:
        """Raise InputError if one of the image files would be replaced.

        None stands for images that are no files of this machine, which cannot be looked at again.
        """
        from negrefine.evaluation.sorted_images import check_sources

        if paths is None:
            for name, given in (("--report", self.report), ("--sort-into", self.sort_into)):
                if given is not None:
                    raise InputError(
                        f"{name} needs images that are files of this machine, and others are named:"
                        " leave it out, or copy the images here first."
                    )
            return
        if self.sort_into is not None:
            check_sources(self.sort_into, paths)

    def prepare(self, detector: Detector) -> None:
        """Raise InputError for a detector whose images cannot be sorted, and mark the folder."""
        from negrefine.evaluation.sorted_images import claim_directory

        if self.sort_into is None:
            return
        if detector.offset_ is None:
            raise InputError(
                "--sort-into needs verdicts, and the detector has no threshold: 'negrefine "
                "calibrate' sets one."
            )
        claim_directory(self.sort_into, self._by)

    def write(self, rows: Sequence[ScoredImage], detector: Detector, name: str) -> None:
        """Write what was asked for about the rows of a detector called `name`."""
        if self.report is not None:
            from negrefine.report.scores_page import MAX_IMAGES, write_scores_page

            write_scores_page(
                rows,
                self.report,
                detector=detector,
                name=name,
                n_images=self.report_images or MAX_IMAGES,
                progress=True,
            )
            say(f"Wrote the page {self.report}.", err=True)
        if self.sort_into is not None:
            from negrefine.evaluation.sorted_images import NONE, UNREADABLE, sort_images

            done = sort_images(
                rows, self.sort_into, detector.class_names_, by=self._by, progress=True
            )
            counts = done.counts
            n, n_classes = counts.total(), len(counts.keys() - {NONE, UNREADABLE})
            n_inside = n - counts[NONE] - counts[UNREADABLE]
            say(
                f"Sorted {counted(n, 'image')} into {self.sort_into}: {n_inside} in "
                f"{counted(n_classes, 'class folder')}, {counts[NONE]} in "
                f"{NONE}, {counts[UNREADABLE]} in {UNREADABLE}.",
                err=True,
            )

    @property
    def _by(self) -> Literal["link", "copy"]:
        return "copy" if self.sort_by is SortBy.COPY else "link"

    def _check_sort_into(self, directory: Path, images: Sequence[str], out: Path | None) -> None:
        from negrefine.encoders.image_files import may_find_below
        from negrefine.evaluation.sorted_images import TABLE, check_directory

        root = directory.resolve()
        for target in filter(None, (out, self.report)):
            place = target.resolve()
            if place in {root, root / TABLE}:
                raise InputError(
                    f"{str(target)!r} is needed by --sort-into {str(directory)!r}: choose another "
                    "name for the results."
                )
            if root in place.parent.parents:
                raise InputError(
                    f"{str(target)!r} lies in a folder of --sort-into {str(directory)!r}, which is "
                    f"for images: put the results into {str(directory)!r} itself, or elsewhere."
                )
        for each in images:
            if may_find_below(each, directory):
                raise InputError(
                    f"--sort-into {str(directory)!r} lies where the images of {each!r} are looked "
                    "for, so what is put there would be scored the next time: name a folder "
                    "elsewhere."
                )
        check_directory(directory)
