"""One self-contained HTML file with the images that were scored: `write_scores_page`."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from negrefine.constraints import Whole
from negrefine.detectors.base import Detector
from negrefine.errors import InputError
from negrefine.evaluation.scored_image import ScoredImage
from negrefine.files.regular import check_regular
from negrefine.files.writing import check_replaceable, naming, write_atomically
from negrefine.progress import progress_bar
from negrefine.report.scores_content import FLAGGED, UNREADABLE, ScoresContent, state_of
from negrefine.report.templates import Inline, check_report_packages, template_environment
from negrefine.report.thumbnails import Thumbnail, iter_thumbnails

MAX_IMAGES = 1000
"""Images on a page unless another number is given."""

# How a page is known.
_MARK = '<meta name="generator" content="negrefine score">'


def write_scores_page(
    rows: Sequence[ScoredImage],
    target: Path,
    *,
    detector: Detector,
    name: str = "",
    n_images: int = MAX_IMAGES,
    notes: Iterable[str] = (),
    progress: bool = False,
) -> Path:
    """Write scored images as one HTML file that loads nothing else, atomically.

    Each image has its thumbnail, as the encoder saw it, its verdict, nearest names, p-value and
    score, or its error. Flagged images are first, those with the lowest p-values (without them, the
    lowest scores) at the head, then those that could not be read. Where scripts run, the page can
    be filtered, searched and sorted; where they do not, it shows everything. The same inputs give
    the same bytes. Neither images nor thumbnails are held in memory, whatever their number.

    Args:
        rows: From `score_files`. The files are read again for their thumbnails; one that cannot be
            any more has none.
        target: The file, ending in .html or .htm; a page of this kind that exists is replaced,
            another file is not.
        detector: What scored the images.
        name: What the page calls the detector, such as its directory.
        n_images: Most images on the page; a warning and the page say how many are left out.
        notes: Further sentences for the head of the page.
        progress: Show a progress bar.

    Returns:
        `target`.

    Raises:
        InputError: The extra `report` is not installed, the file cannot be written, or `n_images`
            is less than 1.
    """
    Whole(1)("n_images", n_images)
    check_scores_page(target)
    content = ScoresContent(rows, detector, name, n_images, notes)
    if content.left_out:
        warnings.warn(
            f"The page {str(target)!r} shows {len(content.shown):,} of {len(rows):,} images; left "
            f"out: {', '.join(f'{n:,} {state}' for state, n in content.left_out.items())}.",
            stacklevel=2,
        )

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            stream.writelines(part.encode("utf-8") for part in _render(content, progress=progress))

    write_atomically(target, write)
    return target


def check_scores_page(target: Path) -> None:
    """Raise InputError where no page can be written, or something else would be replaced.

    Makes the folder of the page.
    """
    check_report_packages()
    if target.suffix.lower() not in {".html", ".htm"}:
        raise InputError(f"The page {str(target)!r} is HTML: end its name in .html.")
    with naming(target):
        check_regular(target)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        check_replaceable(target, _MARK)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(target.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _render(content: ScoresContent, *, progress: bool) -> Iterator[str]:
    """Yield the page in parts, with one thumbnail after the other."""
    environment = template_environment()
    environment.filters |= {"state": state_of, "four": "{:.4f}".format}

    def cards() -> Iterator[tuple[ScoredImage, Thumbnail | None]]:
        total = len(content.shown)
        with progress_bar("Drawing thumbnails", total, enabled=progress) as advance:
            pictures = iter_thumbnails(content.detector.encoder, content.paths)
            for row, picture in zip(content.shown, pictures, strict=True):
                yield row, picture
                advance(1)

    parts: Iterator[str] = environment.get_template("scores.html.jinja").generate(
        content=content,
        cards=cards(),
        class_numbers={name: number for number, name in enumerate(content.classes)},
        flagged=FLAGGED,
        unreadable=UNREADABLE,
        style=Inline("base.css", "scores.css"),
        script=Inline("scores.js"),
    )
    return parts
