"""Cards hold any picture and any name, and bars in proportion."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from negrefine import Detector, NegRefine
from negrefine.report.card import draw_card


@pytest.fixture(scope="module")
def detector(detectors: dict[str, Detector], demo_pictures: list[Path]) -> NegRefine:
    detector = copy(detectors["negrefine"])
    assert isinstance(detector, NegRefine)
    return detector.calibrate(demo_pictures, 0.3)


@pytest.mark.parametrize("size", [(1, 1), (9, 4000), (3000, 20)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_cards_of_any_picture(
    detector: NegRefine, demo_pictures: list[Path], size: tuple[int, int], mode: str
) -> None:
    explanation = detector.explain(demo_pictures[0], top=3)
    card = draw_card(explanation, Image.new(mode, size), "title")
    assert card.mode == "RGB"
    assert card.width == 1200
    middle = np.array(card)[284:305, 240:261]
    # The picture is black, or transparent with black below, which does not show.
    assert (middle == 0).all(axis=2).any() == (mode != "RGBA")


def test_bars_are_as_long_as_the_cosines(detector: NegRefine, demo_pictures: list[Path]) -> None:
    explanation = detector.explain(demo_pictures[0])
    card = np.array(draw_card(explanation, Image.new("RGB", (10, 10), "white")))
    blue = (card[:, 500:] == (0x2F, 0x6F, 0xB2)).all(axis=2)
    orange = (card[:, 500:] == (0xC8, 0x70, 0x2A)).all(axis=2)
    for pixels, matches in ((blue, explanation.classes), (orange, explanation.negatives)):
        rows = pixels.sum(axis=1)
        starts = np.flatnonzero((rows[1:] > 0) & (rows[:-1] == 0)) + 1
        lengths = np.array([rows[start : start + 18].max() for start in starts])
        assert len(lengths) == len(matches)
        cosines = np.array([match.similarity for match in matches])
        np.testing.assert_allclose(lengths / lengths[0], cosines / cosines[0], atol=0.02)


def test_long_and_foreign_names(detector: NegRefine, demo_pictures: list[Path]) -> None:
    explanation = detector.explain(demo_pictures[0], top=1)
    picture = Image.new("RGB", (10, 10))
    white = (255, 255, 255)
    cards = []
    for name in ("x" * 500, "grüner Fuchs", "gruner Fuchs", "лисица", "\u72d0", "\U0001f98a", " "):
        renamed = replace(explanation, classes=[replace(explanation.classes[0], text=name)])
        card = draw_card(renamed, picture, name)
        cards.append(card.tobytes())
        # Nothing runs over the edges or into the picture.
        assert all(card.getpixel((x, y)) == white for x in (10, 1190) for y in range(card.height))
        assert all(card.getpixel((480, y)) == white for y in range(84, 500))
    assert len(set(cards)) == len(cards)
