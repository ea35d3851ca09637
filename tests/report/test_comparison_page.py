"""The page of several results files, in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from browser import chromium, opened
from negrefine.evaluation.comparison import compare

pytest.importorskip("jinja2")

from negrefine.report.comparison_page import write_comparison_page

HOSTILE = "<script>alert(1)</script> {{ 7*7 }} \u202egnp"


def content(title: str, method: str, images: str, value: float) -> dict[str, Any]:
    """Return a results file with one method on a set with a hostile name."""
    number = {"value": value, "low": value - 0.01, "high": value + 0.01, "std": None}
    metrics = dict.fromkeys(("auroc", "fpr95", "aupr_in", "aupr_out"), number)
    sets = [
        {"name": name, "n_images": 9, "n_readable": 9, "images": each, "features": "a" * 64}
        for name, each in (("ID", "a" * 64), (HOSTILE, images))
    ]
    return {
        "format": 1,
        "title": title,
        "conventions": {"fpr95": "id-positive"},
        "titles": {},
        "settings": {"encoder": {"name": "x", "fingerprint": ""}, "seeds": [0], "notes": []},
        "provenance": {"class_names": "a" * 64, "negative_labels": {}, "sets": sets},
        "results": [{"method": method, "ood_set": name, **metrics} for name in (HOSTILE, "mean")],
    }


def test_the_page_shows_numbers_marks_and_plots(tmp_path: Path) -> None:
    paths = []
    for name, images, value in (("one", "a", 0.9), ("two", "b", 0.95), ("three", "a", 0.8)):
        paths.append(tmp_path / f"{name}.json")
        each = content(name, f"method {HOSTILE}", images * 64, value)
        paths[-1].write_text(json.dumps(each), encoding="utf-8")
    page = write_comparison_page(compare(paths), tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "\u202e" not in text
    assert "{{ 7*7 }}" in text
    with chromium() as browser:
        for width in (1280, 390):
            with opened(browser, page.as_uri(), width=width) as shown:
                assert shown.problems == []
                assert shown.overflow() == 0
                assert shown.page.locator("svg.plot").count() == 2
                assert shown.page.locator("svg.plot circle").count() == 6
                assert shown.page.locator("svg.plot circle.open").count() == 2
                # The second file is marked, so that the first is the best.
                assert shown.page.locator("td strong").all_inner_texts() == ["90.00", "80.00"]
                assert shown.page.locator(".caution").inner_text().startswith("[1] The images of")
