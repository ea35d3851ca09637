"""Make the demo images: OpenMoji drawings, rendered to PNG on white, with their labels.

Run `python tools/demo_images/build.py` with Node and npm on the path; see README.md.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

HERE = Path(__file__).resolve().parent
TARGET = HERE.parents[1] / "src" / "negrefine" / "demo" / "images"
SIDE = 144  # pixels; OpenMoji draws on a 72-unit grid
SETS = ("animals", "food", "vehicles", "objects", "plants")


def main() -> None:
    with (HERE / "selection.csv").open(newline="", encoding="utf-8") as file:
        selection = list(csv.DictReader(file))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        install(work)
        emoji = work / "node_modules" / "openmoji"
        drawings = read_annotations(emoji / "data" / "openmoji.json")
        render(work, emoji, [row["hexcode"] for row in selection])
        for name in SETS:
            shutil.rmtree(TARGET / name, ignore_errors=True)
            (TARGET / name).mkdir(parents=True)
        for row in selection:
            save(work / f"{row['hexcode']}.png", TARGET / row["set"] / f"{row['name']}.png")
    write_labels(selection, drawings)
    size = sum(path.stat().st_size for path in TARGET.rglob("*.png"))
    print(f"{len(selection)} images, {size / 1e6:.2f} MB, in {TARGET}")


def install(work: Path) -> None:
    """Install the packages of package-lock.json; npm checks their SHA-512."""
    for name in ("package.json", "package-lock.json", "render.mjs"):
        shutil.copy(HERE / name, work)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=work, check=True)


def read_annotations(path: Path) -> dict[str, dict[str, Any]]:
    return {entry["hexcode"]: entry for entry in json.loads(path.read_text(encoding="utf-8"))}


def render(work: Path, emoji: Path, hexcodes: list[str]) -> None:
    jobs = [
        [str(emoji / "color" / "svg" / f"{code}.svg"), str(work / f"{code}.png")]
        for code in hexcodes
    ]
    subprocess.run(
        ["node", "render.mjs"],
        input=json.dumps({"side": SIDE, "jobs": jobs}),
        text=True,
        cwd=work,
        check=True,
    )


def save(rendered: Path, target: Path) -> None:
    """Save as the smallest PNG that Pillow writes, without loss."""
    with Image.open(rendered) as image:
        if image.size != (SIDE, SIDE):
            raise SystemExit(f"{rendered} is {image.size}, not {SIDE} x {SIDE}.")
        image.convert("RGB").save(target, optimize=True)


def write_labels(selection: list[dict[str, str]], drawings: dict[str, dict[str, Any]]) -> None:
    with (TARGET / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "set", "class", "annotation", "hexcode", "author"))
        for row in sorted(selection, key=lambda row: (SETS.index(row["set"]), row["name"])):
            drawing = drawings[row["hexcode"]]
            path = f"{row['set']}/{row['name']}.png"
            details = (drawing["annotation"], row["hexcode"], drawing["openmoji_author"])
            writer.writerow((path, row["set"], row["class"], *details))
    classes = sorted({row["class"] for row in selection if row["class"]})
    (TARGET / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
