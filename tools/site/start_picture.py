"""Make the picture of the start page: `python tools/site/start_picture.py`.

A detector of the bundled animals scores six bundled drawings, `negrefine score --report` writes its
page, and Chromium takes a picture of that page in light and in dark colours.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from negrefine.benchmarks.bundled import demo_class_names, demo_images

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
NEW = (
    *("newspaper.png", "calendar.png", "light-bulb.png"),
    *("elephant.png", "turtle.png", "cat-face.png"),
)
WIDTH, MARGIN = 1120, 16
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def scored_page(folder: Path) -> Path:
    """Fit, score and return the page about the six drawings."""
    (folder / "classes.txt").write_text("\n".join(demo_class_names()) + "\n", encoding="utf-8")
    for name in ("good", "new"):
        (folder / name).mkdir()
    animals = [image.path for image in demo_images() if image.set_name == "animals"]
    for path in animals:
        if path.name not in NEW:
            shutil.copy(path, folder / "good")
    for image in demo_images():
        if image.path.name in NEW:
            shutil.copy(image.path, folder / "new")
    fit = (
        "fit --classes classes.txt --encoder builtin --min-frequency 5 --calibrate good --fpr 0.05"
    )
    for arguments in (f"{fit} --out detector", "score detector new --out s.csv --report page.html"):
        command = [sys.executable, "-m", "negrefine", *arguments.split()]
        subprocess.run(command, cwd=folder, check=True)
    return folder / "page.html"


def take_pictures(page: Path) -> None:
    """Write start.png and start-dark.png: the page from its filters to the end of the cards."""
    found = next(filter(None, map(shutil.which, _CHROMIUM)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for scheme, name in (("light", "start.png"), ("dark", "start-dark.png")):
            opened = browser.new_page(
                viewport={"width": WIDTH, "height": 1400},
                color_scheme=scheme,
                device_scale_factor=1.5,
            )
            opened.goto(page.as_uri())
            top, last = (
                place.bounding_box() or {}
                for place in (
                    opened.get_by_text("Verdict", exact=True).first,
                    opened.locator("li[data-state]").last,
                )
            )
            x, y = top["x"] - MARGIN, top["y"] - MARGIN
            bottom = last["y"] + last["height"] + MARGIN
            clip = {"x": x, "y": y, "width": WIDTH - 2 * x, "height": bottom - y}
            opened.screenshot(path=IMAGES / name, clip=clip)
            picture = Image.open(IMAGES / name).convert("RGB").quantize(128)
            picture.save(IMAGES / name, optimize=True)
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        take_pictures(scored_page(Path(temporary)))
