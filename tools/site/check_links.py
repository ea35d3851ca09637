"""Check the links of the built site: `python tools/site/check_links.py site/`.

Every link within the site must lead to a file, and to an element of it where it says which; no page
may load anything from another server. Links that lead out of the site are not followed.
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"img", "script", "source", "iframe", "video", "audio", "embed"}
_LOADED_RELATIONS = {"stylesheet", "icon", "preload", "preconnect", "modulepreload"}


class _Page(HTMLParser):
    """Links of a page, what it loads, and the names of its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.names |= {values[name] for name in ("id", "name") if name in values}
        relations = set(values.get("rel", "").split())
        if tag in _LOADED or (tag == "link" and relations & _LOADED_RELATIONS):
            found = [values.get("src", ""), values.get("href", "")]
            found += [
                each.split()[0] for each in values.get("srcset", "").split(",") if each.strip()
            ]
            self.loaded += [each for each in found if each]
        elif tag == "a" and "href" in values:
            self.links.append(values["href"])


@cache
def _page(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def problems(site: Path) -> list[str]:
    """Return a sentence for each link that leads nowhere and each thing loaded from elsewhere."""
    site = site.resolve()
    pages = sorted(site.rglob("*.html"))
    found = [] if pages else [f"There is no page in {site}: build the site first."]
    for path in pages:
        page, here = _page(path), path.relative_to(site)
        found += [
            f"{here} loads {link} from another server."
            for link in page.loaded
            if urlsplit(link).netloc
        ]
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            # The page for errors is shown at any address, so its links begin at the root.
            start = site if parts.path.startswith("/") else path.parent
            target = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not (target.is_file() and target.is_relative_to(site)):
                found.append(f"{here} links to {link}, which does not exist.")
            elif parts.fragment and target.suffix == ".html":
                name = unquote(parts.fragment)
                if name not in _page(target).names and not name.startswith("__"):
                    found.append(f"{here} links to {link}, where nothing has this name.")
    return found


if __name__ == "__main__":
    sentences = problems(Path(sys.argv[1]))
    print("\n".join(sentences or ["All links within the site lead somewhere."]))
    sys.exit(1 if sentences else 0)
