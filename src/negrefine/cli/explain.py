"""`negrefine explain`: what decided the score of an image."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from negrefine.cli.bundles import option
from negrefine.cli.options import AS_JSON, IMAGE_COLUMN, SOURCES, SavedDetector
from negrefine.cli.output import describe_left_out, print_json, say, warn_builtin, warn_unreadable
from negrefine.errors import ImageError, InputError, NegrefineError
from negrefine.shown_text import storable

# Written into each card, so that no other picture is replaced by one.
_MARK = ("Software", "negrefine explain")

if TYPE_CHECKING:
    from PIL.Image import Image

    from negrefine.detectors import Explanation, Match
    from negrefine.sources.base import Shard


def explain(
    saved: SavedDetector,
    images: list[str] = SOURCES,
    *,
    image_column: str | None = IMAGE_COLUMN,
    top: int = option(5, "Number of names and labels to list.", min=1),
    as_json: bool = AS_JSON,
    card: Path | None = option(
        None, "Also draw the explanation of one image as a picture.", "FILE.png"
    ),
) -> None:
    """Show the class names, negative labels and pair of names that decide an image's score.

    IMAGES are what 'score' takes. With --json, one object per line and image. An image that cannot
    be read has its error instead.
    """
    from negrefine.encoders.images import read_scored
    from negrefine.judges.vision import ImagesFailedError
    from negrefine.sources.ahead import read_images
    from negrefine.sources.base import error_text
    from negrefine.sources.files import local_paths
    from negrefine.sources.opening import open_sources

    saved.check_order(images)
    shards = open_sources(images, image_column=image_column)
    paths = local_paths(shards)
    if card is not None:
        _check_card(card, _count(shards))
    detector = saved.load()
    say(*describe_left_out(detector), err=True)
    warn_builtin(detector.encoder, paths or [])
    errors: list[NegrefineError] = []
    n = 0
    for named in (named for shard in shards for named in read_images(shard)):
        n += 1
        shown = storable(named.name)
        try:
            if isinstance(named.image, ImageError):
                raise ImageError(error_text(named.name, named.image))
            explanation = detector.explain(named.image, top=top, unfiltered=True)
        except (ImageError, ImagesFailedError) as error:
            errors.append(error)
            if as_json:
                print_json({"path": shown, "error": str(error)}, indent=None)
            elif paths is None or len(paths) > 1:
                say(shown, f"  {error}", "")
            continue
        if as_json:
            headline = explanation.headline()
            print_json({"path": shown, "headline": headline, **explanation.as_dict()}, indent=None)
        else:
            say(shown, *_render(explanation), "")
        if card is not None:
            picture = read_scored(detector.encoder, named.image)
            _save_card(card, explanation, picture, PurePath(named.name).name)
    if not n:
        raise InputError("Standard input names no image: write a path or URL on each line.")
    if len(errors) == n:
        raise errors[0]
    warn_unreadable(errors, n)


def _count(shards: Iterable[Shard]) -> int:
    """Return the number of images, of which none is read if they are named one by one."""
    from negrefine.sources.lists import StdinShard

    if any(isinstance(shard, StdinShard) for shard in shards):
        raise InputError("--card draws one image, and standard input may name several: name one.")
    return sum(1 for shard in shards for _ in shard)


def _check_card(card: Path, n_images: int) -> None:
    if card.suffix.lower() != ".png":
        raise InputError(f"The card {str(card)!r} must be a PNG file: end its name in .png.")
    if n_images != 1:
        raise InputError(f"--card draws one image, not {n_images}: name one.")
    if not card.parent.is_dir():
        raise InputError(f"The card cannot be written to {str(card)!r}: its folder does not exist.")
    if card.exists() and not _is_card(card):
        raise InputError(
            f"{str(card)!r} exists and is not a card that negrefine has drawn: choose another "
            "name, or remove it."
        )


def _is_card(file: Path) -> bool:
    from PIL import Image

    from negrefine.files.regular import open_regular

    try:
        with warnings.catch_warnings(), open_regular(file) as stream:
            warnings.simplefilter("ignore")
            return Image.open(stream, formats=["PNG"]).info.get(_MARK[0]) == _MARK[1]
    # Damaged and far too large images raise anything.
    except Exception:
        return False


def _save_card(card: Path, explanation: Explanation, image: Image, title: str) -> None:
    from PIL.PngImagePlugin import PngInfo

    from negrefine.files.writing import write_atomically
    from negrefine.report.card import draw_card

    picture = draw_card(explanation, image, title)
    mark = PngInfo()
    mark.add_text(*_MARK)
    write_atomically(card, lambda temporary: picture.save(temporary, format="PNG", pnginfo=mark))


def _render(explanation: Explanation) -> list[str]:
    """Return an explanation as a few lines of plain text."""
    from negrefine.detectors.explanation import reasons

    parts = ", ".join(f"{name} {value:.4f}" for name, value in explanation.parts.items())
    lines = [explanation.headline(), f"score {explanation.score:.4f} ({parts})"]
    if explanation.verdict is not None:
        side = ">=" if explanation.verdict == "ID" else "<"
        lines.append(
            f"verdict {explanation.verdict}: score {side} {explanation.threshold:.4f}"
            f"{explanation.threshold_of()}"
        )
    else:
        lines.append("verdict none: the detector has no threshold: see 'negrefine calibrate'")
    lines += reasons(explanation)
    lines.append(f"class names      {_matches(explanation.classes)}")
    if "near" in explanation.parts:
        lines.append(
            f"near             {explanation.parts['near']:.4f} of the softmax is on proposed labels"
        )
    if explanation.negatives:
        lines.append(f"negative labels  {_matches(explanation.negatives)}")
    for match in explanation.negatives:
        if match.definition:
            lines.append(f"  {match.text} ({match.lexname}): {match.definition}")
    if explanation.unfiltered is not None:
        lines.append(f"removed labels   {_matches(explanation.unfiltered.removed)}")
    pair = explanation.pair
    if pair is not None:
        lines.append(
            f"winning pair     {pair.text!r} {pair.similarity:.3f} "
            f"against {pair.negative!r} alone {pair.negative_similarity:.3f}, "
            f"adds {pair.added:.4f}"
        )
    patch = explanation.patch
    if patch is not None:
        lines.append(
            f"winning patch    row {patch.row}, column {patch.column}: "
            f"{patch.class_name} {patch.similarity:.3f}"
        )
    return [f"  {line}" for line in lines]


def _matches(matches: Iterable[Match]) -> str:
    return ", ".join(f"{match.text} {match.similarity:.3f}" for match in matches)
