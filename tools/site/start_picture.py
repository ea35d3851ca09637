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
WIDTH, PHONE, MARGIN = 1120, 430, 16
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
    """Write start.png, the page from its filters to its end, and start-phone.png, two cards."""
    found = next(filter(None, map(shutil.which, _CHROMIUM)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for width, name in ((WIDTH, "start"), (PHONE, "start-phone")):
            for scheme, end in (("light", ".png"), ("dark", "-dark.png")):
                opened = browser.new_page(
                    viewport={"width": width, "height": 2400},
                    color_scheme=scheme,
                    device_scale_factor=1.5,
                )
                opened.goto(page.as_uri())
                cards = opened.locator("li[data-state]")
                filters = opened.get_by_text("Verdict", exact=True).first
                few = (cards.nth(2), cards.nth(3))
                first, last = (filters, cards.last) if width == WIDTH else few
                top, bottom = (place.bounding_box() or {} for place in (first, last))
                x, y = top["x"] - MARGIN, top["y"] - MARGIN
                height = bottom["y"] + bottom["height"] + MARGIN - y
                clip = {"x": x, "y": y, "width": width - 2 * x, "height": height}
                opened.screenshot(path=IMAGES / (name + end), clip=clip)
                picture = Image.open(IMAGES / (name + end)).convert("RGB").quantize(128)
                picture.save(IMAGES / (name + end), optimize=True)
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        take_pictures(scored_page(Path(temporary)))
