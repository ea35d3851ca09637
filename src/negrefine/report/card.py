"""An explanation as a picture: the image beside bars for its nearest names, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import groupby
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

from negrefine.detectors.explanation import Explanation, Match, verdict_sentences
from negrefine.encoders.images import read_image
from negrefine.shown_text import visible

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

_WIDTH, _PICTURE, _MARGIN, _ROW = 1200, 420, 40, 34
_LABEL, _NUMBER = 250, 64
_PAPER, _INK, _FAINT, _TRACK = "#ffffff", "#1f2430", "#6b7280", "#eef0f4"
_CLASS, _NEGATIVE = "#2f6fb2", "#c8702a"
_VERDICT = {"ID": "#2e7d4f", "OOD": "#b3362b", None: "#6b7280"}
# Looked up by name in the system's font folders; the later ones cover more scripts.
_FONTS = (
    *("DejaVuSans.ttf", "segoeui.ttf", "Arial.ttf", "NotoSans-Regular.ttf"),
    *("NotoSansCJK-Regular.ttc", "msyh.ttc", "Arial Unicode.ttf", "PingFang.ttc"),
    *("NotoSansArabic-Regular.ttf", "NotoSansDevanagari-Regular.ttf", "seguiemj.ttf"),
)


def draw_card(explanation: Explanation, image: Image.Image, title: str = "") -> Image.Image:
    """Return a card, RGB, 1200 pixels wide and as high as its content.

    Args:
        explanation: Of this image.
        image: In any size and mode that `read_image` takes.
        title: A line above, such as the file name; cut where it is too long.
    """
    groups = [("Nearest class names", explanation.classes, _CLASS)]
    if explanation.negatives:
        groups.append(("Nearest negative labels", explanation.negatives, _NEGATIVE))
    verdict, *sentences = explanation_sentences(explanation)
    known = [match for match in explanation.negatives[:2] if match.definition]
    sentences += [f"{match.text} ({match.lexname}): {match.definition}." for match in known]
    lines = [line for text in sentences for line in _wrap(text, 17, _WIDTH - 2 * _MARGIN)]
    body = max(_PICTURE, sum(64 + _ROW * len(matches) for _, matches, _ in groups))
    height = 92 + body + 80 + 28 * len(lines) + _MARGIN
    card = Image.new("RGB", (_WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(card)
    _text(draw, (_MARGIN, 30), _cut(title, 22, _WIDTH - 2 * _MARGIN), 22, _INK)
    _place(card, draw, read_image(image), (_MARGIN, 84))
    left, top = _MARGIN + _PICTURE + 40, 84
    longest = max([m.similarity for _, matches, _ in groups for m in matches] + [1e-9])
    for heading, matches, colour in groups:
        _text(draw, (left, top), f"{heading} (cosine)", 17, _FAINT)
        top = _draw_bars(draw, matches, colour, (left, top + 34), longest) + 30
    top, colour = 84 + body + 28, _VERDICT[explanation.verdict]
    draw.line((_MARGIN, top - 8, _WIDTH - _MARGIN, top - 8), fill=_TRACK, width=2)
    draw.rounded_rectangle((_MARGIN, top + 8, _MARGIN + 8, top + 36), 3, fill=colour)
    _text(draw, (_MARGIN + 22, top + 8), verdict, 23, colour)
    for i, line in enumerate(lines):
        _text(draw, (_MARGIN, top + 52 + 28 * i), line, 17, _INK)
    return card


def explanation_sentences(explanation: Explanation) -> list[str]:
    """Return sentences about what decided: the verdict, the pair that won S_MM, and the rest."""
    sentences = verdict_sentences(explanation)
    pair = explanation.pair
    if pair is not None:
        winning = (
            f"Winning pair: \u201c{pair.text}\u201d {pair.similarity:.3f} against "
            f"\u201c{pair.negative}\u201d alone {pair.negative_similarity:.3f}; S_MM adds "
            f"{pair.added:.3f} to the score."
        )
        # After the verdict, and what its threshold is of.
        sentences.insert(2 if explanation.threshold_of() else 1, winning)
    return sentences


def _place(
    card: Image.Image, draw: ImageDraw.ImageDraw, picture: Image.Image, corner: tuple[int, int]
) -> None:
    """Paste the picture centred in its square, small ones enlarged with sharp pixels."""
    x, y = corner
    square = (x, y, x + _PICTURE, y + _PICTURE)
    draw.rectangle(square, fill=_TRACK)
    factor = _PICTURE / max(picture.size)
    width, height = (max(1, round(side * factor)) for side in picture.size)
    resample = Image.Resampling.NEAREST if factor > 3 else Image.Resampling.LANCZOS
    place = (x + (_PICTURE - width) // 2, y + (_PICTURE - height) // 2)
    card.paste(picture.resize((width, height), resample), place)
    # A white picture would have no edge on white paper.
    draw.rectangle(square, outline=_TRACK, width=2)


def _draw_bars(
    draw: ImageDraw.ImageDraw,
    matches: Sequence[Match],
    colour: str,
    corner: tuple[int, int],
    longest: float,
) -> int:
    x, y = corner
    start, end = x + _LABEL + 12, _WIDTH - _MARGIN - _NUMBER
    for match in matches:
        label = _cut(match.text, 17, _LABEL)
        _text(draw, (x + _LABEL - _width(label, 17), y), label, 17, _INK)
        draw.rounded_rectangle((start, y + 2, end, y + 20), 4, fill=_TRACK)
        length = (end - start) * max(0.0, match.similarity) / longest
        if length >= 8:
            draw.rounded_rectangle((start, y + 2, start + length, y + 20), 4, fill=colour)
        number = f"{match.similarity:.3f}"
        _text(draw, (_WIDTH - _MARGIN - _width(number, 16), y), number, 16, _FAINT)
        y += _ROW
    return y


@lru_cache(maxsize=16)
def _fonts(size: int) -> tuple[Font, ...]:
    found: list[Font] = []
    for name in _FONTS:
        with suppress(OSError):
            found.append(ImageFont.truetype(name, size))
    return (*found, ImageFont.load_default(size))


@lru_cache(maxsize=4096)
def _glyph(letter: str, size: int) -> tuple[Font, str]:
    """Return the first font that has the letter, and the letter, or its code if none has it."""
    for font in _fonts(size):
        if letter.isspace() or _drawn(font, letter) != _drawn(font, "\U0010fffd"):
            return font, letter
    return _fonts(size)[0], f"[U+{ord(letter):04X}]"


def _drawn(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


def _runs(text: str, size: int) -> list[tuple[Font, str]]:
    """Return the text as pieces of one font each."""
    glyphs = [_glyph(letter, size) for letter in text]
    return [(font, "".join(g for _, g in run)) for font, run in groupby(glyphs, lambda g: g[0])]


def _text(
    draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, size: int, fill: str
) -> None:
    x, y = corner
    for font, piece in _runs(text, size):
        # One baseline for all fonts.
        draw.text((x, y + size), piece, font=font, fill=fill, anchor="ls")
        x += font.getlength(piece)


def _width(text: str, size: int) -> float:
    return sum(font.getlength(piece) for font, piece in _runs(text, size))


def _bounded(text: str) -> str:
    """Return the `visible` text, cut where it fills the card anyway: measuring takes time."""
    text = visible(text)
    return text if len(text) <= 2000 else text[:2000] + "\u2026"


def _cut(text: str, size: int, width: float) -> str:
    """Return the text, with an ellipsis in place of what is too long."""
    text = _bounded(text)
    if _width(text, size) <= width:
        return text
    while text and _width(text + "\u2026", size) > width:
        text = text[:-1]
    return text.rstrip() + "\u2026"


def _wrap(text: str, size: int, width: float) -> list[str]:
    """Return lines of at most this width, at most three, words whole where they fit."""
    lines: list[str] = []
    for word in _bounded(text).split():
        if lines and _width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > 3:
        lines = [*lines[:2], " ".join(lines[2:])]
    return [_cut(line, size, width) for line in lines]
