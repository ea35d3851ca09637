"""Every public name is in the reference, and has an example in its docstring that runs."""

from __future__ import annotations

import doctest
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import negrefine
from clipn_models import open_clip_layout, save_checkpoint, small_towers
from docs.conftest import DOCS
from encoders import family_models
from judges.chat_server import Server, message
from judges.tiny_vision import save_vision_model
from negrefine.encoders.clipn_checkpoint import convert_clipn
from transcripts import Reader, is_like

API = DOCS / "api"
ADDRESS = "http://localhost:11434/v1"


class Checker(doctest.OutputChecker):
    """Compares line by line, and the last digits of numbers may differ."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:  # noqa: ARG002
        lines = want.splitlines(), got.splitlines()
        return len(lines[0]) == len(lines[1]) and all(map(is_like, *lines))


@pytest.fixture(scope="module")
def names(
    tmp_path_factory: pytest.TempPathFactory, builtin_dir: Path, tiny_llm: Path
) -> Iterator[dict[str, Any]]:
    """What the page before the reference defines, in a folder with small random models."""
    folder = tmp_path_factory.mktemp("examples")
    checkpoint = save_checkpoint(folder / "clipn.pt", open_clip_layout(*small_towers()))
    convert_clipn(checkpoint, builtin_dir, folder / "clipn")
    family_models.save("siglip", folder / "siglip")
    save_vision_model(folder / "smolvlm", "idefics3")
    (folder / "qwen").symlink_to(tiny_llm)
    reader = Reader(None, folder)
    assert len(reader.read(API / "index.md")) == 1
    before = Path.cwd()
    os.chdir(folder)
    yield reader.names
    os.chdir(before)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A language model that knows one proper noun, and what a dog may be mistaken for."""
    server = Server()

    def reply(question: str, _: Any) -> dict[str, Any]:
        if "image_url" in question:
            return message("Yes" if "there a cat in this image" in question else "No")
        if "photos" in question:
            return message("- jackal\n- fox")
        return message("Yes" if "'dallas'" in question and "proper noun" in question else "No")

    server.reply = reply
    yield server
    server.close()


@pytest.mark.parametrize("name", negrefine.__all__)
def test_the_example_runs(name: str, names: dict[str, Any], server: Server) -> None:
    docstring = inspect.getdoc(getattr(negrefine, name)) or ""
    docstring = docstring.replace(ADDRESS, server.url)
    example = doctest.DocTestParser().get_doctest(docstring, dict(names), name, name, 0)
    assert example.examples, f"{name} has no example"
    assert not any(each.options.get(doctest.SKIP) for each in example.examples)
    report: list[str] = []
    runner = doctest.DocTestRunner(Checker(), verbose=False)
    # Some warn: about random models, and about small lexicons.
    failed, tried = runner.run(example, out=report.append)
    assert tried == len(example.examples)
    assert failed == 0, "".join(report)


def test_a_wrong_example_fails() -> None:
    checker = Checker()
    assert checker.check_output("array([0.151])\n", "array([0.152])\n", 0)
    assert not checker.check_output("array([0.15])\n", "array([0.25])\n", 0)
    assert not checker.check_output("True\n", "False\n", 0)
    assert not checker.check_output("1\n", "1\n2\n", 0)


def test_every_public_name_is_in_the_reference() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in API.glob("*.md"))
    documented = re.findall(r"^\.\. auto\w+:: negrefine\.(\w+)$", pages, re.MULTILINE)
    assert sorted(documented) == sorted(negrefine.__all__)
    overview = (API / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+)`", overview.partition("\nNames")[0])) == {*documented}
