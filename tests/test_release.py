"""What a release needs and no command shows: one version, licences, a citation, typed files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import negrefine

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = ROOT / "pyproject.toml"

pytestmark = pytest.mark.skipif(not PYPROJECT.exists(), reason="there is no checkout")


def version() -> str:
    found = re.search(r'^version = "(.+)"$', PYPROJECT.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def test_there_is_one_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", version())
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version()
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert version().partition(".dev")[0] in headings
    assert len(headings) == len(set(headings))


def test_the_citation_names_the_paper_that_the_methods_name() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = citation["references"]
    known = re.search(r"\| NegRefine \| `negrefine` \| (.+?), arXiv (\S+) \|", _methods())
    assert known is not None
    assert paper["identifiers"][0]["value"] == f"arXiv:{known[2]}"
    assert known[1] == f"ICCV {paper['year']}"
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def _methods() -> str:
    return (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def test_every_licence_that_is_declared_is_there() -> None:
    line = re.search(r"^license-files = \[(.+)\]$", PYPROJECT.read_text("utf-8"), re.MULTILINE)
    assert line is not None
    for pattern in re.findall(r'"(.+?)"', line[1]):
        assert [*ROOT.glob(pattern)], pattern
    assert (Path(negrefine.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("file", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda f: f.name)
def test_forms_of_issues_are_such_forms(file: Path) -> None:
    form = yaml.safe_load(file.read_text(encoding="utf-8"))
    if file.name == "config.yml":
        assert form == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= set(form)
    ids = [each["id"] for each in form["body"] if each["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 0
    for each in form["body"]:
        assert each["type"] in {"markdown", "textarea", "input", "checkboxes", "dropdown"}
        assert each["attributes"].get("label") or each["attributes"].get("value")
