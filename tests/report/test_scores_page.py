"""The page of scored images: what it says, what it shows, and how it works in a browser."""

from __future__ import annotations

import base64
import io
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops

from browser import Opened, chromium, opened
from negrefine import Detector
from negrefine.benchmarks.bundled import demo_images
from negrefine.detectors.conformal import detection_interval
from negrefine.encoders import CLIPEncoder
from negrefine.errors import InputError
from negrefine.evaluation.image_scores import score_files
from negrefine.evaluation.scored_image import ScoredImage
from negrefine.shown_text import restored, visible

pytest.importorskip("jinja2")

from negrefine.report.scores_page import write_scores_page

N_SHOWN = 1000
HOSTILE = [
    '"><script>alert(1)<script><img src=x onerror=alert(1)>.png',
    "x' onmouseover='alert(1)' {{ 7*7 }} &amp;.png",
    "a\x1b[31mb\u202egnp\n.png",
    "long-" * 40 + ".png",
]


@dataclass
class Card:
    """What one card of a page says."""

    attributes: dict[str, str | None]
    words: list[str]
    picture: str | None = None

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


class Page(HTMLParser):
    """Elements, cards, and the text before them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.cards: list[Card] = []
        self.words: list[str] = []
        self._within = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.head = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag in {"style", "script", "title"}:
            self._within = tag
        if tag == "li":
            self.cards.append(Card(dict(attrs), []))
        if tag == "img":
            self.cards[-1].picture = dict(attrs)["src"]

    def handle_endtag(self, tag: str) -> None:
        if tag == self._within:
            self._within = ""

    def handle_data(self, data: str) -> None:
        if not self._within:
            (self.cards[-1].words if self.cards else self.words).append(data)


@dataclass(frozen=True)
class Scored:
    """Images, their rows, and the page about them."""

    folder: Path
    detector: Detector
    rows: list[ScoredImage]
    page: Path
    warnings: list[str]

    @property
    def expected(self) -> list[ScoredImage]:
        """The rows in the order of the page."""
        flagged = [row for row in self.rows if row.verdict == "OOD"]
        accepted = [row for row in self.rows if row.verdict == "ID"]
        broken = [row for row in self.rows if row.error is not None]
        for rows in (flagged, accepted):
            rows.sort(key=lambda row: (row.p_value, row.score))
        return [*flagged, *broken, *accepted]


@pytest.fixture(scope="module")
def detector(fit: Callable[..., dict[str, Detector]]) -> Detector:
    """Calibrated on every other animal."""
    animals = [image.path for image in demo_images() if image.set_name == "animals"]
    return fit("csp")["csp"].calibrate(animals[::2], fpr=0.1)


@pytest.fixture(scope="module")
def scored(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """The demo's pictures on several grounds, a file that is no image, and hostile names."""
    folder = tmp_path_factory.mktemp("pictures")
    pictures = demo_images()
    rng = np.random.default_rng(0)
    small = [Image.open(each.path).convert("RGB").resize((48, 48)) for each in pictures]
    names = HOSTILE if sys.platform == "linux" else []
    for i in range(N_SHOWN + 2 - len(names)):
        which = i % len(pictures)
        ground = tuple(rng.integers(200, 256, 3).tolist())
        image = ImageChops.multiply(Image.new("RGB", (48, 48), ground), small[which])
        path = folder / pictures[which].set_name / f"{pictures[which].path.stem}-{i:04}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path, compress_level=1)
    for name in names:
        (folder / name.replace("/", "")).write_bytes(pictures[-1].path.read_bytes())
    (folder / "broken.png").write_bytes(b"no image")
    rows = score_files(detector, sorted(folder.rglob("*.png")))
    page = folder / "page.html"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_scores_page(rows, page, detector=detector, name="my/<detector>")
    return Scored(folder, detector, rows, page, [str(each.message) for each in caught])


def test_says_what_was_scored(scored: Scored) -> None:
    head = Page(scored.page).head
    n = N_SHOWN + 2
    flagged = sum(row.verdict == "OOD" for row in scored.rows)
    assert 100 < flagged < n - 100
    low, high = (f"{100 * end:.1f} %" for end in detection_interval(flagged, n))
    assert f"{flagged} of {n:,} images flagged" in head
    assert f"{100 * flagged / n:.1f} % of the images that could be read" in head
    assert f"(95 % interval {low} to {high}). 1 image could not be read." in head
    promise = "promises that at most 10.0 % of in-distribution images are flagged, on average over"
    assert f"The threshold, from 31 images, {promise} calibrations." in head
    assert "The built-in encoder is a toy" in head
    assert "Detector my/<detector> Method CSP Encoder builtin" in head
    assert f"Threshold {scored.detector.offset_:.4f} Folder {scored.folder}" in head
    left_out = "3 in-distribution"
    assert f"This page shows 1,000 of {n + 1:,} images, flagged ones first" in head
    assert f"Left out: {left_out}." in head
    (said,) = scored.warnings
    assert said == (
        f"The page {str(scored.page)!r} shows 1,000 of {n + 1:,} images; left out: {left_out}."
    )


def test_cards_are_in_order_and_complete(scored: Scored) -> None:
    cards = Page(scored.page).cards
    expected = scored.expected[:N_SHOWN]
    assert len(cards) == N_SHOWN
    classes = sorted({row.nearest_class for row in expected if row.nearest_class})
    for card, row in zip(cards, expected, strict=True):
        place = Path(restored(row.path)).relative_to(scored.folder)
        # A folder and its file are two elements.
        shown = visible(str(place)).replace(" ", "").replace("/", "/")
        assert shown in card.text.replace(" ", "")
        if row.error is not None:
            assert card.text.startswith("no picture Unreadable")
            assert visible(row.error) in card.text
            continue
        assert card.picture is not None
        assert card.attributes["data-class"] == str(classes.index(str(row.nearest_class)))
        verdict = "Flagged" if row.verdict == "OOD" else "In-distribution"
        assert card.text.startswith(verdict)
        assert (
            card.text.endswith(
                f"Nearest class {row.nearest_class} {row.similarity:.3f} "
                f"Runner-up {row.runner_up} {row.runner_up_similarity:.3f} "
                f"Negative label {row.nearest_negative} {row.negative_similarity:.3f} "
                f"p-value {row.p_value:.4f} Score {row.score:.4f}"
            )
            or card is cards[-1]
        )
    assert cards[0].attributes["data-state"] == "flagged"
    assert min(row.p_value for row in scored.rows if row.p_value is not None) == expected[0].p_value


def test_loads_and_runs_nothing_of_others(scored: Scored) -> None:
    page = Page(scored.page)
    assert page.tags["script"] == page.tags["style"] == page.tags["link"] == 1
    assert page.tags["img"] == N_SHOWN - 1
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name == "style"]
    sources = [value or "" for _, name, value in page.attributes if name in {"src", "href"}]
    assert all(source.startswith(("data:image/", "data:,")) for source in sources)
    (policy,) = [v for _, name, v in page.attributes if name == "content" and "default-src" in v]
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'sha256-[\w+/=]{44}'; "
        r"script-src 'sha256-[\w+/=]{44}'; base-uri 'none'; form-action 'none'",
        policy,
    )
    ids = Counter(value for _, name, value in page.attributes if name == "id")
    assert max(ids.values()) == 1
    text = scored.page.read_text(encoding="utf-8")
    assert not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]", text)
    # About 3 kB for each of these small pictures.
    assert len(text) < 4_500_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def places(found: Opened) -> list[int]:
    """The positions, in the first order, of the cards that are shown."""
    shown: list[int] = found.page.evaluate(
        "[...document.querySelectorAll('#cards > li')].filter((card) => card.checkVisibility())"
        ".map((card) => Number(card.dataset.place))"
    )
    return shown


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_works_in_a_browser(scored: Scored, browser: Any, width: int, dark: bool) -> None:
    rows = scored.expected[:N_SHOWN]
    with opened(browser, scored.page.as_uri(), width=width, dark=dark) as found:
        page, count = found.page, found.page.locator("#shown")
        assert found.overflow() == 0
        assert places(found) == list(range(N_SHOWN))
        assert count.inner_text() == "1,000 images"
        assert page.locator("#cards > li").first.get_attribute("data-state") == "flagged"
        widths = page.evaluate(
            "Promise.all([...document.images].slice(0, 3).map((image) =>"
            " image.decode().then(() => image.naturalWidth)))"
        )
        assert widths == [48, 48, 48]

        def check(wanted: Callable[[ScoredImage], bool]) -> None:
            matching = [i for i, row in enumerate(rows) if wanted(row)]
            assert places(found) == matching
            assert count.inner_text() == f"{len(matching):,} of 1,000 images"

        # By mouse: what is flagged; then by keyboard the next choice, what cannot be read.
        page.get_by_text("Flagged", exact=False).first.scroll_into_view_if_needed()
        page.locator("label", has_text="Flagged").first.click()
        check(lambda row: row.verdict == "OOD")
        page.keyboard.press("ArrowRight")
        check(lambda row: row.error is not None)
        outline = page.evaluate(
            "getComputedStyle(document.querySelector('input:checked + span')).outlineStyle"
        )
        assert outline == "solid"
        page.keyboard.press("ArrowRight")
        check(lambda row: row.verdict == "ID")
        # A class, chosen by its letters, and a part of a file name.
        accepted = [row for row in rows if row.verdict == "ID"]
        ((name, _),) = Counter(row.nearest_class for row in accepted).most_common(1)
        page.keyboard.press("Tab")
        page.keyboard.type(str(name))
        check(lambda row: row.verdict == "ID" and row.nearest_class == name)
        part = "animals/" + next(
            Path(row.path).name[:5]
            for row in accepted
            if row.nearest_class == name and "animals/" in row.path
        )
        page.keyboard.press("Tab")
        page.keyboard.type(part.upper())
        check(lambda row: row.verdict == "ID" and row.nearest_class == name and part in row.path)
        assert 0 < len(places(found)) < sum(row.nearest_class == name for row in accepted)
        # Each filter counts what it would show beside the others.
        named = [row for row in rows if row.nearest_class == name and part in row.path]
        flagged = sum(row.verdict == "OOD" for row in named)
        assert page.locator("small[data-of='flagged']").inner_text() == str(flagged)
        assert page.locator("small[data-of='']").inner_text() == str(len(named))
        page.keyboard.type("nowhere")
        assert page.get_by_text("No image matches.").is_visible()
        assert count.inner_text() == "0 of 1,000 images"
        page.get_by_role("button", name="Reset").click()
        assert places(found) == list(range(N_SHOWN))

        # The order: scores, the other way round, and file names with numbers in them.
        scores = np.array([np.inf if row.score is None else row.score for row in rows])
        page.get_by_label("Order").select_option("lowest")
        assert places(found) == np.argsort(scores, kind="stable").tolist()
        page.get_by_label("Order").select_option("highest")
        downwards = np.argsort(np.where(np.isinf(scores), np.inf, -scores), kind="stable")
        assert places(found) == downwards.tolist()
        page.get_by_label("Order").select_option("file")
        chicks = sorted(row.path for row in rows if "animals/baby-chick-" in row.path)
        in_order = [rows[i].path for i in places(found)]
        assert [path for path in in_order if "animals/baby-chick-" in path] == chicks
        start = in_order.index(chicks[0])
        assert in_order[start : start + len(chicks)] == chicks
        page.get_by_role("button", name="Reset").click()

        # Hostile names are text.
        if sys.platform == "linux":
            page.get_by_label("File name").fill("onerror=alert")
            (card,) = places(found)
            assert "onerror" in rows[card].path
            assert page.locator("#cards > li:visible .file").text_content() == HOSTILE[0]
            for name in HOSTILE[1:]:
                page.get_by_label("File name").fill(visible(name)[-20:])
                assert visible(name) in page.locator("#cards > li:visible .file").text_content()
                assert found.overflow() == 0
        assert page.evaluate("document.scripts.length") == 1
        assert found.problems == []
        assert {each.partition(":")[0] for each in found.requests} <= {"file", "data"}
        assert [each for each in found.requests if each.startswith("file:")] == [
            scored.page.as_uri()
        ]


CONTRAST = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" ? ground(element.parentElement) : colour;
  };
  const ratio = (element) => {
    const pair = [light(getComputedStyle(element).color), light(ground(element))].sort();
    return (pair[1] + 0.05) / (pair[0] + 0.05);
  };
  const all = "h1, p, dt, dd, .value, .folder, legend, .field, .choices span, small, button";
  return Math.min(...[...document.querySelectorAll(all)].slice(0, 200).map(ratio));
}"""


def test_text_has_contrast_in_light_and_dark(scored: Scored, browser: Any) -> None:
    grounds = []
    for dark in (False, True):
        with opened(browser, scored.page.as_uri(), dark=dark) as found:
            assert found.page.evaluate(CONTRAST) > 4.5
            grounds.append(found.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]


def test_shows_everything_without_scripts(scored: Scored, browser: Any) -> None:
    with opened(browser, scored.page.as_uri(), width=390, scripts=False) as found:
        assert found.page.locator("#cards > li").count() == N_SHOWN
        assert found.page.locator("#cards > li[hidden]").count() == 0
        assert not found.page.locator("#controls").is_visible()
        assert found.page.locator("#cards > li").last.is_visible()


def picture(card: Card) -> Image.Image:
    assert card.picture is not None
    kind, data = re.fullmatch(r"data:image/(\w+);base64,(.+)", card.picture).groups()
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format.lower() == kind
    return image.convert("RGB")


def test_thumbnails_are_what_the_encoder_sees(
    detector: Detector, builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    tall = Image.new("RGB", (400, 200), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    tall.save(tmp_path / "turned.png", exif=exif)
    Image.new("RGBA", (100, 100), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    (tmp_path / "gone.png").write_bytes((tmp_path / "clear.png").read_bytes())
    rows = score_files(detector, [tmp_path / f"{name}.png" for name in ("turned", "clear", "gone")])
    (tmp_path / "gone.png").unlink()
    page = Page(write_scores_page(rows, tmp_path / "a.html", detector=detector))
    cards = {re.search(r"(\w+)\.png", card.text).group(1): card for card in page.cards}
    assert picture(cards["turned"]).size == (80, 160)
    assert picture(cards["clear"]).getpixel((50, 50)) == (255, 255, 255)
    assert cards["gone"].picture is None
    assert f"Score {rows[2].score:.4f}" in cards["gone"].text


def test_detectors_without_threshold_labels_or_promise(
    scored: Scored, fit: Callable[..., dict[str, Detector]], tmp_path: Path
) -> None:
    paths = [scored.folder / "broken.png", *sorted((scored.folder / "food").iterdir())[:5]]
    mcm = fit("mcm")["mcm"]
    rows = score_files(mcm, paths)
    page = Page(write_scores_page(rows, tmp_path / "a.html", detector=mcm))
    assert "6 images scored" in page.head
    assert "The detector has no threshold, so there are no verdicts" in page.head
    states = [card.attributes["data-state"] for card in page.cards]
    assert states == ["unreadable"] + 5 * ["no verdict"]
    scores = [float(card.attributes["data-score"] or "nan") for card in page.cards[1:]]
    assert scores == sorted(row.score for row in rows[1:])
    assert "Negative label" not in page.cards[1].text
    assert "p-value" not in page.cards[1].text
    mcm.offset_ = scores[2]
    page = Page(write_scores_page(score_files(mcm, paths), tmp_path / "a.html", detector=mcm))
    assert "2 of 5 images flagged" in page.head
    assert "What false-alarm rate the threshold promises is not known" in page.head
    page = Page(write_scores_page(rows[:1], tmp_path / "b.html", detector=mcm))
    assert "1 image could not be read." in page.head
    assert len(page.cards) == 1
    assert len(Page(write_scores_page([], tmp_path / "c.html", detector=mcm)).cards) == 0


def test_a_page_of_many_rows_is_no_larger(scored: Scored, tmp_path: Path) -> None:
    rows = [row for row in scored.rows if row.verdict == "ID"][:100]
    few, many = tmp_path / "few.html", tmp_path / "many.html"
    write_scores_page(rows[:20], few, detector=scored.detector, n_images=20)
    with pytest.warns(UserWarning, match="shows 20 of 100,000 images; left out: 99,980 in-distr"):
        write_scores_page(1000 * rows, many, detector=scored.detector, n_images=20)
    assert many.stat().st_size < few.stat().st_size + 2000
    assert len(Page(many).cards) == 20


def test_replaces_its_pages_only(scored: Scored, tmp_path: Path) -> None:
    rows, target = scored.rows[:3], tmp_path / "new" / "a.html"
    first = write_scores_page(rows, target, detector=scored.detector).read_bytes()
    assert write_scores_page(rows, target, detector=scored.detector).read_bytes() == first
    target.write_text("<html>default-src 'none'</html>")
    with pytest.raises(InputError, match=r"a\.html' exists and is not what negrefine writes"):
        write_scores_page(rows, target, detector=scored.detector)
    assert target.read_text() == "<html>default-src 'none'</html>"
    with pytest.raises(InputError, match=r"scores\.csv' is HTML: end its name in \.html"):
        write_scores_page(rows, tmp_path / "scores.csv", detector=scored.detector)
    with pytest.raises(InputError, match="n_images"):
        write_scores_page(rows, tmp_path / "b.html", detector=scored.detector, n_images=0)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_thresholds_by_class(
    scored: Scored, fit: Callable[..., dict[str, Detector]], tmp_path: Path
) -> None:
    """Each card has its own, and images of several folders are told apart."""
    mcm = fit("mcm")["mcm"]
    images = [path for name in ("animals", "food") for path in (scored.folder / name).iterdir()]
    mcm.calibrate(sorted(images)[::2], fpr=0.1, by="class")
    rows = score_files(mcm, sorted(images)[1:40:2])
    rows[0] = replace(rows[0], path="elsewhere/a.png")
    page = Page(write_scores_page(rows, tmp_path / "a.html", detector=mcm))
    own = sum(group.kind == "class" for group in mcm.threshold_groups())
    assert 1 < own < 25
    assert f"Thresholds are by class: {own} of 25 classes have their own" in page.head
    assert (
        "The other classes share one, which promises the same of their images together."
        in page.head
    )
    low, high = (f"{end(mcm.class_offsets_):.4f}" for end in (np.min, np.max))
    assert f"Thresholds {low} to {high}" in page.head
    assert "Folder" not in page.head
    shown = {card.text.rpartition("Threshold ")[2] for card in page.cards[:-1]}
    assert shown <= {f"{threshold:.4f}" for threshold in mcm.class_offsets_}
    assert len(shown) > 1
    mcm.calibrate(sorted(images)[::2], fpr=0.1, delta=0.05)
    page = Page(write_scores_page(rows[:1], tmp_path / "a.html", detector=mcm))
    assert (
        "at most 10.0 % of in-distribution images are flagged, with probability 0.95" in page.head
    )


def test_what_thresholds_by_class_promise(
    scored: Scored, fit: Callable[..., dict[str, Detector]], tmp_path: Path
) -> None:
    """Of classes that have enough calibration images, and of the others."""
    mcm, target = fit("mcm")["mcm"], tmp_path / "a.html"
    scores = np.arange(30.0)

    def head(classes: list[int], delta: float | None = None) -> str:
        mcm.calibrate_scores(scores, 0.1, by="class", classes=classes, delta=delta)
        return Page(write_scores_page(scored.rows[:1], target, detector=mcm)).head

    # Nine are needed.
    said = head([k % 25 for k in range(30)])
    assert (
        "no class has enough calibration images for its own: all share one, from 30 images, which "
        "promises that at most 10.0 % of in-distribution images are flagged"
    ) in said
    said = head([0] * 25 + [1] * 5)
    assert "1 of 25 classes have their own" in said
    assert "The other classes have too few calibration images" in said
    assert "nothing is promised for them." in said
    assert "share one" not in said
    said = head([0] * 15 + [1] * 15, 0.3)
    assert "2 of 25 classes have their own" in said
    assert "too few" in said
    said = head([0] * 15 + [k % 5 + 1 for k in range(15)], 0.3)
    assert "the same of their images together, though the probability only approximately." in said


def test_needs_its_extra(scored: Scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"pip install 'negrefine\[report\]'"):
        write_scores_page(scored.rows, tmp_path / "a.html", detector=scored.detector)
