"""A folder as a user has it, and commands that start quickly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.workspace import Workspace, make_broken_images
from commands import Commands, Done, run
from conftest import CLASS_NAMES


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not hasattr(os, "fork"):
        yield run
        return
    commands = Commands(tmp_path_factory.mktemp("commands"))
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def work(
    tmp_path_factory: pytest.TempPathFactory, lexicon_file: Path, demo_pictures: list[Path]
) -> Workspace:
    """Class names, pictures with broken ones among them, and two detectors made by `fit`."""
    root = tmp_path_factory.mktemp("work")
    classes = root / "classes.txt"
    classes.write_text("\n".join(CLASS_NAMES) + "\n", encoding="utf-8")
    pictures = root / "pictures"
    pictures.mkdir()
    good = []
    for i, path in enumerate(demo_pictures[:8]):
        name = f"{'grün 🦊' if i == 0 else i}.png"
        (pictures / name).write_bytes(path.read_bytes())
        good.append(name)
    log = root / "answers.txt"
    lines = [
        "Paris | proper noun ",
        "Einstein | proper noun ",
        "oak | dog | ",
        "poodle | dog | subcategory ",
    ]
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    calibration = root / "calibration"
    calibration.mkdir()
    for path in demo_pictures[:6]:
        (calibration / path.name).write_bytes(path.read_bytes())
    common = ["--classes", classes, "--encoder", "builtin", "--lexicon", lexicon_file]
    mining = ["--lexicon-files", "full", "--top-fraction", "1", "--n-groups", "4"]
    done = run(
        *("fit", "--out", root / "deep" / "detector", *common, *mining),
        *("--judge", f"replay:{log}", "--calibrate", calibration, "--fpr", "0.2"),
    )
    assert done.code == 0, done.err
    assert done.err == ""
    assert done.out.startswith("Saved negrefine to ")
    assert "from 6 images, false-alarm rate <= 0.2" in done.out
    done = run("fit", "--out", root / "plain", *common[:4], "--method", "mcm")
    assert done == Done(0, f"Saved mcm to {root / 'plain'}: 7 class names.\n", "")
    broken = make_broken_images(pictures)
    return Workspace(
        root,
        classes,
        lexicon_file,
        pictures,
        good,
        broken,
        root / "deep" / "detector",
        root / "plain",
    )
