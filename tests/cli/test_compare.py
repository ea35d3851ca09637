"""`negrefine evaluate --baseline` and `negrefine compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .workspace import Workspace


def test_results_of_two_runs_are_compared(
    quick: Any, work: Workspace, demo_pictures: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("jinja2")
    sets = {"in": demo_pictures[:6], "out": demo_pictures[-6:], "fewer": demo_pictures[-5:]}
    for name, pictures in sets.items():
        (tmp_path / name).mkdir()
        for picture in pictures:
            (tmp_path / name / picture.name).write_bytes(picture.read_bytes())
    common = [*("evaluate", "--id", tmp_path / "in", "--classes", work.classes)]
    common += ["--encoder", "builtin", "--methods", "mcm,energy", "--bootstrap", 20]
    first = ["--out", tmp_path / "first", "--ood", f"other={tmp_path / 'out'}"]
    done = quick(*common, *first, "--baseline", "mcm")
    assert done.code == 0, done.err
    assert "Energy" in done.out
    lines = [line for line in done.out.splitlines() if line.endswith(" against other.")]
    assert [line.split()[0] for line in lines] == ["Energy", "Energy"]
    assert "AUROC" in lines[0]
    assert "FPR95" in lines[1]
    report = (tmp_path / "first" / "report.html").read_text(encoding="utf-8")
    assert lines[0] in report
    assert "Energy - MCM" in report

    second = ["--out", tmp_path / "second", "--ood", f"other={tmp_path / 'fewer'}"]
    done = quick(*common, *second, "--no-report", "--title", "fewer")
    assert done.code == 0, done.err
    assert "against other." not in done.out
    page = tmp_path / "compared.html"
    done = quick("compare", tmp_path / "first", tmp_path / "second", "--html", page)
    assert done.code == 0, done.err
    assert "[1] The images of other in fewer are not those in" in done.out
    assert "[1] The images of other in fewer" in page.read_text(encoding="utf-8")
    done = quick("compare", tmp_path / "first", tmp_path / "second" / "results.json", "--json")
    content = json.loads(done.out)
    assert {row["file"]: row["auroc"]["marks"] for row in content["rows"]} == {
        str(tmp_path / "first" / "results.json"): [],
        "fewer": [1],
    }

    for arguments, message in (
        ((*common, *first, "--baseline", "csp"), "The baseline 'csp' is none of the methods mcm,"),
        (("compare", tmp_path / "first", tmp_path / "in"), "is no results file"),
        (("compare", tmp_path / "first"), "needs two or more results files"),
        (("compare", *[tmp_path / "first"] * 2, "--html", work.classes), "not what negrefine wri"),
    ):
        done = quick(*arguments)
        assert done.code == 1
        assert message in done.err
