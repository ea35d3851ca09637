"""A real browser in tests: Chromium without a window, driven through Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


@dataclass
class Opened:
    """An open page, and what it said and asked for since it was opened.

    `page` is Playwright's. `problems` are messages and warnings of the console (violations of a
    content security policy are among them) and exceptions of scripts; `requests` are the addresses
    of whatever was requested, the page itself and `data:` addresses included.
    """

    page: Page
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        width: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return width


def find_chromium() -> str:
    """Return the path of a Chromium, or skip the test."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("no Chromium")
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium, or skip the test without it or without Playwright; a second or so."""
    path = find_chromium()
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Browser,
    address: str | None = None,
    *,
    width: int = 1280,
    height: int = 800,
    dark: bool = False,
    scripts: bool = True,
    timeout: float = 20.0,
) -> Iterator[Opened]:
    """Open an address (or none yet) in a fresh context of a browser, which forgets it afterwards.

    Args:
        browser: From `chromium`, which several pages may share.
        address: Such as `Path.as_uri()`; None to go there later with `page.goto`.
        width: Of the window in CSS pixels.
        height: Of the window in CSS pixels.
        dark: Whether the page is told that dark colours are preferred.
        scripts: Whether scripts run.
        timeout: Seconds after which waiting for anything raises playwright's TimeoutError.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
        accept_downloads=True,
    )
    try:
        context.set_default_timeout(1000 * timeout)
        found = Opened(context.new_page())
        found.page.on("console", lambda message: found.problems.append(message.text))
        found.page.on("pageerror", lambda error: found.problems.append(str(error)))
        found.page.on("request", lambda request: found.requests.append(request.url))
        if address is not None:
            found.page.goto(address)
        yield found
    finally:
        context.close()
