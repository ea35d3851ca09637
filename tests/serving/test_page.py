"""The page of `negrefine serve` in a real browser, before real server processes."""

from __future__ import annotations

import base64
import json
import re
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from browser import Opened, chromium, opened
from negrefine import MCM, Detector, Lexicon, NegRefine
from negrefine.benchmarks.bundled import demo_class_names, demo_images
from negrefine.detectors.conformal import threshold_rank
from negrefine.encoders import CLIPEncoder
from negrefine.shown_text import visible
from serving.processes import Server, Zygote

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

TOKEN = "open-sesame"  # noqa: S105 - of a server that lives for a test
HOSTILE = '<img src=x onerror="alert(1)">\u202egnp.exe قطة ' + "y" * 120 + ".png"
HOSTILE_CLASSES = ["<script>alert(1)</script>", "\u202eeman", "قطة سوداء", "a" * 60]
N_NAMES = 1000
# A whole file, dropped as a file manager drops it.
DROP = """(given) => {
  const transfer = new DataTransfer();
  for (const { name, data } of given) {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
  }
  for (const type of ["dragenter", "dragover", "drop"]) {
    const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
    document.querySelector("h1").dispatchEvent(new DragEvent(type, options));
  }
}"""

# A picture of the clipboard, which every browser calls image.png.
PASTE = """(data) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([bytes], "image.png", { type: "image/png" }));
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}"""


@dataclass(frozen=True)
class Served:
    """Two servers, and what they serve: `strict` has a token, and no time to answer at first."""

    server: Server
    strict: Server
    root: Path
    animals: Detector
    by_class: Detector

    @property
    def url(self) -> str:
        return self.server.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(
    zygote: Zygote,
    tmp_path_factory: pytest.TempPathFactory,
    builtin_encoder: CLIPEncoder,
    small_lexicon: Lexicon,
) -> Iterator[Served]:
    """Serve animals with one threshold or many, fruits without any, and a thousand names."""
    root = tmp_path_factory.mktemp("served")
    mining: dict[str, Any] = {"lexicon": small_lexicon, "lexicon_files": "full", "n_groups": 5}
    known = [image.path for image in demo_images() if image.set_name == "animals"]
    animals = NegRefine(builtin_encoder, **mining).fit(demo_class_names())
    animals.calibrate(known[::2], fpr=0.1).save(root / "animals")
    NegRefine(builtin_encoder, **mining).fit(["tomato", "banana", "pear"]).save(root / "fruits")
    names = [*HOSTILE_CLASSES, *(f"thing {i}" for i in range(N_NAMES))]
    with warnings.catch_warnings():
        # A name is too long for the encoder.
        warnings.simplefilter("ignore")
        MCM(builtin_encoder).fit(names).calibrate(known[1::2], fpr=0.1).save(root / "names")
    by_class = MCM(builtin_encoder).fit(["cat", "horse", "bird", "tiger", "fish"])
    by_class.calibrate(known, fpr=0.1, by="class").save(root / "each")
    folders = [root / name for name in ("animals", "fruits", "names", "each")]
    server = zygote.start(*folders, NEGREFINE_TOKEN="")
    limits = ["--deadline", "0.0001", "--batch-wait", "0", "--max-bytes", "40000"]
    strict = zygote.start(root / "animals", *limits, NEGREFINE_TOKEN=TOKEN)
    for each in (server, strict):
        each.wait_until_ready()
    yield Served(server, strict, root, animals, by_class)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0, server.err.read_text()


@pytest.fixture(scope="module")
def pictures() -> list[Path]:
    """Twelve pictures that no detector was calibrated on, four of them animals."""
    sets = ("animals", "food", "vehicles")
    return [p.path for s in sets for p in [i for i in demo_images() if i.set_name == s][1:17:4]]


def ready(page: Page) -> None:
    page.locator("#detector dl").first.wait_for()


def give(page: Page, paths: list[Path]) -> None:
    page.set_input_files("#files", [str(path) for path in paths])
    done(page, len(paths))


def done(page: Page, n: int) -> None:
    page.locator(".result:not([data-state=wait])").nth(n - 1).wait_for(state="attached")
    page.locator("#progress").wait_for(state="hidden")


def rows(page: Page) -> Locator:
    return page.locator(".result")


def words(page: Page) -> list[str]:
    return page.locator(".result .verdict .words").all_inner_texts()


def fact(row: Locator, term: str) -> str:
    return (
        row.locator(".rest dl div")
        .filter(has=row.page.get_by_text(term, exact=True))
        .locator("dd")
        .inner_text()
    )


def test_dropped_images_get_the_verdicts_of_the_detector(
    served: Served, browser: Browser, pictures: list[Path], tmp_path: Path
) -> None:
    given = [(path.name, path.read_bytes()) for path in pictures[:6]]
    given += [("broken.png", b"nothing"), (HOSTILE, pictures[6].read_bytes())]
    # In a group of its own: a request without any image is refused as a whole.
    given += [("alone.png", b"nothing")]
    files_ = [{"name": n, "data": base64.b64encode(data).decode()} for n, data in given]
    readable = [*pictures[:6], pictures[6]]
    with opened(browser, served.url, width=390, height=844) as found:
        page = found.page
        ready(page)
        assert "25 class names" in page.locator("#summary").inner_text()
        assert "photographs mean nothing" in page.locator("#toy").inner_text()
        page.evaluate(DROP, files_)
        done(page, len(given))
        named = [name or "none of your classes" for name in served.animals.classify(readable)]
        assert words(page) == [*named[:6], "not scored", named[6], "not scored"]
        assert "none of your classes" in named
        assert set(named) != {"none of your classes"}
        p_values = served.animals.p_values(readable)
        scores = served.animals.score_samples(readable)
        n = len(served.animals.calibration_scores_)
        scored = [rows(page).nth(i) for i in (0, 1, 2, 3, 4, 5, 7)]
        for row, p_value, score in zip(scored, p_values, scores, strict=True):
            assert float(fact(row, "p-value")) == pytest.approx(p_value, rel=5e-3)
            assert float(fact(row, "Score")) == pytest.approx(score, rel=1e-3)
            below = round(p_value * (n + 1)) - 1
            meaning = row.locator(".meaning").inner_text()
            assert meaning.startswith(f"{below or 'None'} of the {n} calibration images")
        for i, name in ((6, "broken.png"), (8, "alone.png")):
            said = rows(page).nth(i).locator(".wrong-text").inner_text()
            assert said.startswith(f"{name}: is not an image")
        broken = rows(page).nth(6)
        assert broken.get_by_role("img").get_attribute("aria-label") == "broken.png: not scored"
        # What others have named is text, and nothing of it is hidden or obeyed.
        assert rows(page).nth(7).locator(".file").inner_text() == visible(HOSTILE)
        assert page.locator("img[src=x]").count() == 0
        alt = rows(page).nth(0).get_by_role("img").get_attribute("alt")
        assert alt == f"{pictures[0].name}: {named[0]}"
        n_none = named.count("none of your classes")
        status = page.get_by_role("status").first.inner_text()
        assert status == (
            f"9 images: {n_none} in none of your classes, {7 - n_none} in a class, 2 not scored."
        )
        assert found.overflow() == 0
        # The browser says itself that the request without any image was refused.
        assert "422" in found.problems.pop()
        check_quiet(found, served.url)


def check_quiet(found: Opened, url: str) -> None:
    """Check that nothing was complained of, and nothing came from elsewhere."""
    assert found.problems == []
    assert {
        request for request in found.requests if not request.startswith((url, "blob:"))
    } == set()


def test_another_rate_flips_the_images_that_it_would_flag(
    served: Served, browser: Browser, pictures: list[Path]
) -> None:
    n = len(served.animals.calibration_scores_)
    p_values = served.animals.p_values(pictures)
    flagged = served.animals.predict(pictures) < 0

    def expected(fpr: float) -> list[str]:
        then = p_values <= threshold_rank(n, fpr) / (n + 1)
        return [path.name for path, flips in zip(pictures, then != flagged, strict=True) if flips]

    with opened(browser, served.url) as found:
        page = found.page
        ready(page)
        give(page, pictures)
        field, slider = page.locator("#rate"), page.locator("#rate-slider")
        assert field.input_value() == "10"
        assert page.locator(".result.turns").count() == 0
        seen = set()
        for percent in ("4", "10", "25", "37.5", "60", "99.9"):
            field.fill(percent)
            names = page.locator(".result.turns .file").all_inner_texts()
            assert names == expected(float(percent) / 100)
            assert page.locator("[data-count=flip]").inner_text() == str(len(names))
            seen.add(len(names))
        assert len(seen) > 2
        assert "threshold stays as it is" in page.locator("#whatif-note").inner_text()
        field.fill("3")
        nothing = page.locator("#whatif-text").inner_text()
        assert nothing.startswith("At 3\u00a0% nothing can be flagged")
        assert f"{np.ceil(10_000 / (n + 1)) / 100:g}\u00a0%" in nothing
        assert page.locator("#whatif-list a").all_inner_texts() == expected(0.03)
        field.fill("a lot")
        assert "percentage above 0" in page.locator("#rate-error").inner_text()
        assert page.locator(".result.turns").count() == 0
        field.fill("20")
        slider.press("ArrowRight")
        assert field.input_value() == "25"
        assert slider.get_attribute("aria-valuetext") == "25\u00a0%"
        assert page.locator("#whatif-list a").all_inner_texts() == expected(0.25)
        page.get_by_label("Would change").check()
        assert rows(page).filter(visible=True).count() == len(expected(0.25))
        check_quiet(found, served.url)


def test_thresholds_by_class_flip_images_within_their_groups(
    served: Served, browser: Browser, pictures: list[Path]
) -> None:
    detector = served.by_class
    groups = {index: group for group in detector.threshold_groups() for index in group.classes}
    assert {group.kind for group in groups.values()} >= {"class", "pooled"}
    features = detector.encoder.encode_images(pictures)
    nearest = detector.nearest_classes(features, top=1)[0][:, 0]
    p_values = detector.p_values_features(features)
    ns = np.array([groups[index].n for index in nearest])
    flagged = detector.predict_features(features) < 0
    with opened(browser, f"{served.url}?detector=each") as found:
        page = found.page
        ready(page)
        give(page, pictures)
        assert [text == "none of your classes" for text in words(page)] == flagged.tolist()
        assert page.locator(".result.turns").count() == 0
        flipped = set()
        for percent in (5, 10, 40, 70):
            page.locator("#rate").fill(str(percent))
            ranks = np.array([threshold_rank(n, percent / 100) for n in ns])
            flips = (np.rint(p_values * (ns + 1)) <= ranks) != flagged
            names = page.locator(".result.turns .file").all_inner_texts()
            assert names == [p.name for p, flip in zip(pictures, flips, strict=True) if flip]
            flipped.add(len(names))
        assert len(flipped) > 2
        assert "may also pool classes differently" in page.locator("#whatif-note").inner_text()
        threshold = f"{detector.class_offsets_[0]:#.4g}"
        assert f"threshold {threshold}" in page.locator(".classes li").first.inner_text()

        # Saved anew while the page is open.
        before = served.server.ask("/v1/detector?detector=each").json["version"]
        known = [image.path for image in demo_images() if image.set_name == "animals"]
        MCM(detector.encoder).fit(["cat", "dog"]).calibrate(known, 0.25).save(served.root / "each")
        deadline = time.monotonic() + 20
        while served.server.ask("/v1/detector?detector=each").json["version"] == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        page.set_input_files("#files", [str(pictures[0])])
        page.get_by_text("12 images were scored by another detector, or by an earlier").wait_for()
        assert "2 class names" in page.locator("#summary").inner_text()
        assert page.locator("#rate").input_value() == "25"
        assert "an earlier version" in rows(page).last.locator(".file").inner_text()
        page.get_by_role("button", name="Score with “each”").click()
        page.get_by_text("13 images: ").wait_for()
        assert set(words(page)) <= {"cat", "dog", "none of your classes"}
        check_quiet(found, served.url)


def test_ranks_and_shown_text_are_those_of_the_library(served: Served, browser: Browser) -> None:
    cases = [
        (n, percent, delta)
        for n in (1, 19, 61, 99, 100, 999, 5000)
        for percent in ("0.1", "5", "7.25", "29", "57", "99.99")
        for delta in (None, 0.05, 0.5)
    ]
    texts = [
        *("plain", HOSTILE, "a\u200db", "👩\u200d👩", "क\u094d\u200dष", "❤\ufe0f", "1\ufe0f\u20e3"),
        *("x\ufe0f", "\u200d", "tab\tand\nline", "\x7f\x85", "\ufeff", "\U000e0041", "\ud800half"),
    ]
    rates = [0.05, 0.1, 0.29, 1e-05, 0.123456789, 0.999]
    with opened(browser, served.url) as found:
        ready(found.page)
        ranks, shown, percents = found.page.evaluate(
            """async ({ cases, texts, rates }) => {
              const { parsePercent, percentText, rankOf } = await import("/static/rates.js");
              const { visible } = await import("/static/text.js");
              const ranks = cases.map(([n, rate, delta]) => rankOf(parsePercent(rate), n, delta));
              return [ranks, JSON.parse(texts).map(visible), rates.map(percentText)];
            }""",
            {"cases": cases, "texts": json.dumps(texts), "rates": rates},
        )
        assert ranks == [threshold_rank(n, float(p) / 100, d) for n, p, d in cases]
        assert shown == [visible(text) for text in texts]
        assert percents == ["5", "10", "29", "0.001", "12.3456789", "99.9"]


def test_what_decided_and_its_picture(
    served: Served, browser: Browser, pictures: list[Path], tmp_path: Path
) -> None:
    found_here = served.animals.explain(pictures[5], top=5)
    with opened(browser, served.url, dark=True) as found:
        page = found.page
        ready(page)
        data = base64.b64encode(pictures[5].read_bytes()).decode()
        page.evaluate(PASTE, data)
        done(page, 1)
        assert page.locator(".result .file").inner_text() == "pasted image 1.png"
        page.get_by_role("button", name="What decided").click()
        why = page.get_by_role("region", name="What decided")
        why.locator("table").first.wait_for()
        assert why.locator(".headline").inner_text() == found_here.headline()
        tables = why.locator("table").all()
        pair = found_here.pair
        assert pair is not None
        for table, matches in zip(tables, (found_here.classes, found_here.negatives), strict=False):
            names = [text.split("\n")[0] for text in table.locator("th").all_inner_texts()]
            assert names == [match.text for match in matches]
            numbers = [float(text) for text in table.locator(".number").all_inner_texts()]
            assert numbers == pytest.approx([match.similarity for match in matches], abs=6e-4)
        assert tables[2].locator("th").all_inner_texts() == [pair.text, f"{pair.negative} alone"]
        longest = why.locator(".bar").evaluate_all("all => all.map((bar) => bar.style.width)")
        assert longest.count("100%") == 1
        page.get_by_role("button", name="Show as one picture").click()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download PNG").click()
        assert download.value.suggested_filename == "pasted-image-1-explained.png"
        download.value.save_as(tmp_path / "card.png")
        with Image.open(tmp_path / "card.png") as card:
            assert (card.format, card.width) == ("PNG", 1200)
        assert page.locator("img.card").evaluate("card => card.naturalWidth") == 1200
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 24)"
        assert found.overflow() == 0
        check_quiet(found, served.url)


def test_everything_is_reached_with_the_keyboard(
    served: Served, browser: Browser, pictures: list[Path]
) -> None:
    with opened(browser, served.url) as found:
        page = found.page
        # Playwright takes the place of the chooser from now on, rather than some time after Enter.
        page.on("filechooser", lambda _: None)
        ready(page)

        def tab() -> str:
            page.keyboard.press("Tab")
            # The field of files itself is unseen, and its label is drawn as the one in focus.
            width, name = page.evaluate(
                """() => {
                  const at = document.activeElement;
                  const drawn = at.id === "files" ? at.labels[0]
                    : at.type === "radio" ? at.nextElementSibling : at;
                  const name = at.ariaLabel ?? at.labels?.[0]?.innerText ?? at.innerText;
                  return [getComputedStyle(drawn).outlineWidth, name];
                }"""
            )
            assert width == "3px", name
            return str(name)

        assert tab() == "Detector"
        assert tab() == "Choose images"
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files([str(path) for path in pictures[:2]])
        done(page, 2)
        assert tab() == "Remove all"
        assert tab().startswith("All")
        page.keyboard.press("ArrowRight")
        assert page.locator("[name=show]:checked").get_attribute("value") == "ood"
        page.keyboard.press("ArrowLeft")
        assert tab() == f"What decided about {pictures[0].name}"
        page.keyboard.press("Enter")
        page.locator(".why table").first.wait_for()
        assert tab() == f"Remove {pictures[0].name}"
        assert tab() == "Show as one picture"
        assert tab() == f"What decided about {pictures[1].name}"
        assert tab() == f"Remove {pictures[1].name}"
        page.keyboard.press("Enter")
        assert rows(page).count() == 1
        assert page.evaluate("document.activeElement.className") == "result"
        left = ["What decided about", "Remove", "Show as one picture"]
        for expected in (*left, "False-alarm rate", "Flag at most", "25 class names"):
            assert tab().startswith(expected)
        check_quiet(found, served.url)


def test_other_detectors_and_a_thousand_hostile_names(
    served: Served, browser: Browser, pictures: list[Path]
) -> None:
    with opened(browser, served.url, width=390, height=844) as found:
        page = found.page
        ready(page)
        give(page, pictures[:2])
        page.select_option("#choose-detector", "fruits")
        page.get_by_text("2 images were scored by another detector").wait_for()
        page.get_by_role("button", name="Score with “fruits”").click()
        page.locator(".result[data-state=open]").nth(1).wait_for()
        assert words(page) == ["no verdict: the detector has no threshold"] * 2
        assert "not calibrated" in page.locator(".meaning").first.inner_text()
        assert "was not calibrated" in page.locator("#whatif-text").inner_text()
        assert not page.locator("#rate").is_visible()
        page.select_option("#choose-detector", "names")
        page.get_by_text(f"{N_NAMES + len(HOSTILE_CLASSES):,} class names", exact=True).click()
        listed = page.locator(".classes li bdi")
        assert listed.all_inner_texts()[:4] == [visible(name) for name in HOSTILE_CLASSES]
        assert "The first 1,000 are shown" in page.locator(".classes").locator("..").inner_text()
        page.get_by_label("Search the class names").fill("thing 99")
        assert listed.all_inner_texts() == ["thing 99", *(f"thing {i}" for i in range(990, 1000))]
        assert found.overflow() == 0
        check_quiet(found, served.url)


def test_a_token_an_overloaded_server_and_one_that_is_gone(
    served: Served, browser: Browser, pictures: list[Path], tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(b"0" * 40_000)
    with opened(browser, served.strict.url) as found:
        page = found.page
        dialog = page.get_by_role("dialog", name="This server asks for a token")
        dialog.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        dialog.get_by_text("did not accept").wait_for()
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        ready(page)
        assert not dialog.is_visible()
        assert TOKEN not in page.evaluate("JSON.stringify([localStorage, sessionStorage])")

        n_requests = len(found.requests)
        page.set_input_files("#files", [str(large)])
        assert "has 40,000 bytes, and the server takes at most 40,000" in rows(page).inner_text()
        page.get_by_role("button", name="Remove all").click()
        assert found.requests[n_requests:] == []

        # This server never has time.
        page.set_input_files("#files", [str(pictures[0])])
        for i in range(1, 7):
            page.get_by_text(f"Try {i} of 6. Trying again in").wait_for()
            page.get_by_role("button", name="Try now").click()
        page.get_by_text("It was still so after 6 tries. 1 image waits.").wait_for()

        served.strict.signal(signal.SIGKILL)
        assert served.strict.wait() == -signal.SIGKILL
        page.get_by_role("button", name="Try again").click()
        page.get_by_text("The server cannot be reached").wait_for()
        many = [{"name": f"{i}.png", "mimeType": "image/png", "buffer": b"0"} for i in range(205)]
        page.set_input_files("#files", many)
        page.get_by_text("The server cannot be reached").wait_for()
        page.get_by_text("200 images wait.").wait_for()
        assert rows(page).count() == 200
        assert page.locator("#kept").inner_text().endswith("1 earlier one left the list.")
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("the first 200 of them").wait_for()
        assert words(page) == ["not scored"] * 200
        page.get_by_role("button", name="Remove all").click()

        port = served.strict.url.rstrip("/").rpartition(":")[2]
        folder = served.root / "animals"
        again = served.strict.zygote.start(folder, "--port", port, NEGREFINE_TOKEN=TOKEN)
        again.wait_until_ready()
        page.set_input_files("#files", [str(pictures[0])])
        done(page, 1)
        assert words(page) == [served.animals.classify([pictures[0]])[0] or "none of your classes"]
        again.signal(signal.SIGTERM)
        assert again.wait() == 0, again.err.read_text()


def test_without_scripts_the_page_says_that_it_needs_them(served: Served, browser: Browser) -> None:
    with opened(browser, served.url, scripts=False) as found:
        assert "This page needs JavaScript" in found.page.locator("main").inner_text()
        assert not found.page.locator("#drop").is_visible()


def test_colours_are_told_apart_by_everybody() -> None:
    css = (files("negrefine.serving") / "page" / "app.css").read_text(encoding="utf-8")
    roots = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    assert len(roots) == 2
    for root in roots:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", root))
        for ink in ("ink", "faint", "accent", "right", "wrong"):
            for ground in ("ground", "paper"):
                assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        pairs = [("on-accent", "accent"), ("on-accent", "accent-deep"), ("accent", "tint")]
        pairs += [("ink", "tint"), ("ink", "caution-tint"), ("paper", "right"), ("paper", "wrong")]
        for ink, ground in [*pairs, ("paper", "ink"), ("faint", "rail")]:
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        # Edges of controls, and bars.
        for edge, ground in [("edge", "paper"), ("edge", "ground"), ("caution", "caution-tint")]:
            assert contrast(colours[edge], colours[ground]) >= 3, (edge, ground)
        for bar in ("class", "negative", "pair"):
            assert contrast(colours[bar], colours["rail"]) >= 3, bar


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours, as WCAG 2 defines it."""
    lights = sorted(_luminance(colour) for colour in (first, second))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour: str) -> float:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
