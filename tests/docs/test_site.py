"""The site: built without a warning, links that lead somewhere, and pages in a real browser."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browser import chromium, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "tools" / "site"


def build(source: Path, out: Path) -> str:
    """Build pages as `make docs` does; return the warnings, each of which fails it."""
    for package in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(package, reason="the extra 'docs' is not installed")
    arguments = ["-q", "-W", "--keep-going", "-c", str(SITE), "-d", f"{out}-doctrees"]
    command = [sys.executable, "-m", "sphinx", *arguments, str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert bool(done.returncode) == bool(done.stderr), done.stderr
    return done.stderr


def problems(site: Path) -> list[str]:
    """Return what tools/site/check_links.py says."""
    spec = importlib.util.spec_from_file_location("check_links", SITE / "check_links.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[str] = module.problems(site)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    assert build(ROOT, out) == ""
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    assert problems(site) == []
    assert len(list(site.rglob("*.html"))) > 40
    for public in ("negrefine.NegRefine", "negrefine.evaluate", "negrefine.metrics.auroc"):
        assert any(f'id="{public}"' in page.read_text() for page in site.glob("docs/api/*.html"))


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b.html#no">b</a><a href="c.html">c</a><a href="https://example.org">e</a>'
        '<img src="https://example.org/x.png"><source srcset="d.png 2x">'
    )
    (tmp_path / "b.html").write_text('<p id="yes">')
    found = " ".join(problems(tmp_path))
    for part in ("b.html#no, where", "c.html, which", "d.png, which", "x.png from another server"):
        assert part in found
    assert found.count("a.html") == 4


def test_no_page_and_links_out_of_the_site_are_found(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (found,) = problems(site)
    assert found.startswith("There is no page in ")
    site.mkdir()
    (tmp_path / "secret.txt").touch()
    (site / "a.html").write_text('<a href="../secret.txt">x</a><img srcset="a.html 1x, ">')
    assert problems(site) == ["a.html links to ../secret.txt, which does not exist."]


def test_a_page_in_no_list_and_a_link_to_no_file_fail_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "source" / "docs"
    docs.mkdir(parents=True)
    (docs / "images").mkdir()
    (docs / "index.md").write_text("# Start\n\n[nowhere](gone.md)\n")
    (docs / "alone.md").write_text("# Alone\n")
    warnings = build(tmp_path / "source", tmp_path / "out")
    assert "alone.md: WARNING: document isn't included in any toctree" in warnings
    assert "gone.md" in warnings


PAGES = ("index", "methods", "api/detectors", "stream", "quickstart", "tutorials/index", "numbers")


def test_no_page_is_wider_than_a_phone(site: Path, browser: Browser) -> None:
    for page in PAGES:
        address = (site / "docs" / f"{page}.html").as_uri()
        with opened(browser, address, width=390, height=844) as phone:
            assert phone.overflow() == 0, page
            assert phone.problems == [], page


def test_search_finds_a_page_without_a_server(site: Path, browser: Browser) -> None:
    address = (site / "docs" / "index.html").as_uri()
    with opened(browser, address) as start:
        start.page.get_by_placeholder("Search").fill("exchangeable")
        start.page.keyboard.press("Enter")
        # Results appear one after another.
        start.page.locator("#search-results li a", has_text="Thresholds").first.wait_for()
        assert {request.split(":")[0] for request in start.requests} <= {"file", "data"}
        # Without a server browsers do not let the page read excerpts, which it then leaves out.
        assert all("fetch" in problem or "ERR_FAILED" in problem for problem in start.problems)
