"""Render all images to 64 x 64 RGBA: images.npy, with a row each in images.jsonl.

Coloured styles of the training set are also drawn with black outlines of two widths, and as line
drawings, by giving every shape a stroke, so that the model learns such styles.
"""

from __future__ import annotations

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from concepts import Concept, Names, images_of
from fetch import read_sources
from numpy.typing import NDArray
from PIL import Image

RENDERED, SIDE = 96, 64
VARIANTS = ("plain", "thin", "thick", "line")
_WIDTHS = {"thin": 0.018, "thick": 0.032, "line": 0.028}
_FILL = re.compile(r'(fill|stop-color)="(?!none)[^"]*"')
_OPACITY = re.compile(r' (?:fill-)?opacity="[^"]*"')
_OPEN = re.compile(r'<svg[^>]*viewBox="([^"]*)"[^>]*>')


def main(work: Path) -> None:
    """Render every style that is missing, then join them."""
    names = Names(work)
    sources = [source for source in read_sources() if "style" in source]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda source: _render_style(work, source, names), sources))
    rows: list[dict[str, Any]] = []
    pixels = []
    for source in sources:
        folder = work / "styles" / source["style"]
        lines = (folder / "images.jsonl").read_text(encoding="utf-8").splitlines()
        rows += [json.loads(line) for line in lines]
        pixels.append(np.load(folder / "images.npy"))
        counts = {v: sum(json.loads(line)["variant"] == v for line in lines) for v in VARIANTS}
        print(source["style"], counts, flush=True)
    np.save(work / "images.npy", np.concatenate(pixels))
    _write_rows(work / "images.jsonl", rows)


def _render_style(work: Path, source: dict[str, Any], names: Names) -> None:
    folder = work / "styles" / source["style"]
    if (folder / "images.npy").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    images = list(images_of(work, source, names))
    rows: list[dict[str, Any]] = []
    squares: list[NDArray[np.uint8]] = []
    if source["kind"] == "bitmap":
        for identifier, concept, path in images:
            with Image.open(path) as image:
                _keep(rows, squares, source, identifier, "plain", concept, image.convert("RGBA"))
    else:
        outlined = source["role"] == "train" and source["kind"] == "colour"
        jobs = [
            (identifier, variant, concept, drawn_as(svg, variant))
            for identifier, concept, svg in images
            for variant in (VARIANTS if outlined else VARIANTS[:1])
        ]
        rendered = _render(folder, [job[3] for job in jobs])
        for (identifier, variant, concept, _), square in zip(jobs, rendered, strict=True):
            if square is not None:
                image = Image.fromarray(square, "RGBA")
                _keep(rows, squares, source, identifier, variant, concept, image)
    _write_rows(folder / "images.jsonl", rows)
    np.save(folder / "images.npy", np.stack(squares))


def drawn_as(svg: str, variant: str) -> str:
    """Return the drawing with black outlines; as a line drawing, filled with white."""
    if variant == "plain":
        return svg
    found = _OPEN.search(svg)
    if found is None:
        raise ValueError("The drawing has no viewBox.")
    width = _WIDTHS[variant] * float(found[1].split()[2])
    if variant == "line":
        svg = _OPACITY.sub("", _FILL.sub(r'\1="#fff"', svg))
    stroke = (
        f'<g stroke="#000" stroke-width="{width:.3f}" stroke-linejoin="round" '
        'stroke-linecap="round">'
    )
    end = found.end()
    return svg[:end] + stroke + svg[end:].removesuffix("</svg>").rstrip() + "</g></svg>"


def _render(folder: Path, drawings: list[str]) -> list[NDArray[np.uint8] | None]:
    jobs, target = folder / "jobs.jsonl", folder / "rendered.raw"
    _write_rows(jobs, [{"svg": svg} for svg in drawings])
    done: list[int] = []
    target.write_bytes(b"")
    first = 0
    while first < len(drawings):
        command = ["node", str(Path(__file__).with_name("render.mjs")), str(jobs), str(target)]
        process = subprocess.run(
            [*command, str(first), str(RENDERED)], capture_output=True, text=True, check=False
        )
        written = [int(line) for line in process.stdout.split()]
        done += written
        # The drawing after the last one written has ended the process.
        last = written[-1] if written else first - 1
        first = last + 2 if process.returncode else len(drawings)
    raw = np.fromfile(target, np.uint8).reshape(-1, RENDERED, RENDERED, 4)
    squares: list[NDArray[np.uint8] | None] = [None] * len(drawings)
    for i, square in zip(done, raw, strict=True):
        squares[i] = square
    jobs.unlink()
    target.unlink()
    return squares


def _keep(
    rows: list[dict[str, Any]],
    squares: list[NDArray[np.uint8]],
    source: dict[str, Any],
    identifier: str,
    variant: str,
    concept: Concept,
    image: Image.Image,
) -> None:
    box = image.getchannel("A").point(lambda value: 255 * (value > 8)).getbbox()
    if box is None:
        return
    image = image.crop(box)
    scale = SIDE / max(image.size)
    size = tuple(max(1, round(scale * side)) for side in image.size)
    # Premultiplied, so that the colour of transparent pixels does not bleed into others.
    small = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    square = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    square.paste(small, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    squares.append(np.asarray(square))
    rows.append(
        {
            "style": source["style"],
            "id": identifier,
            "variant": variant,
            "name": concept.name,
            "tags": concept.tags,
            "group": concept.group,
        }
    )


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
