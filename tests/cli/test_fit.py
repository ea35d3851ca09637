"""`negrefine fit`: what it refuses, and in which words."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from cli.workspace import Workspace
from commands import Done


def test_class_lists(quick: Any, work: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"

    def fit() -> Done:
        fitted: Done = quick(
            *("fit", "--classes", file, "--out", tmp_path / "d"),
            *("--encoder", "builtin", "--method", "mcm"),
        )
        return fitted

    assert "does not exist: give a text file" in fit().failed()
    file.mkdir()
    assert "is a folder, not a regular file: give a text file" in fit().failed()
    file.rmdir()
    for content in (b"", b"\n  \n\r\n", b"\xef\xbb\xbf"):
        file.write_bytes(content)
        assert "is empty: write one class name per line" in fit().failed()
    file.write_bytes("chaï\n".encode("latin-1"))
    assert "is not UTF-8 text: save it as UTF-8" in fit().failed()
    assert not (tmp_path / "d").exists()
    file.write_bytes("\ufeffdog\r\n\r\n  white cat \n\n漢字".encode())
    assert fit().code == 0
    manifest = json.loads((tmp_path / "d" / "detector.json").read_text(encoding="utf-8"))
    assert manifest["class_names"] == ["dog", "white cat", "漢字"]
    file.write_bytes(b"dog\ncat\ndog\n")
    done = fit()
    assert done.code == 0
    assert done.err.startswith("negrefine: warning: 1 class names occur more than once, 'dog' ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--encoder", "no/such/place"], "'no/such/place' is not a directory"),
        (["--encoder", "not a name!"], "is neither a directory nor a hub id"),
        (["--encoder", "builtin", "--device", "toaster"], "device 'toaster' cannot be used"),
        (["--encoder", "builtin", "--dtype", "int3"], "dtype must be 'auto'"),
        (["--encoder", "builtin", "--resample", "magic"], "image preprocessing"),
        (
            ["--method", "mcm", "--alpha", "1"],
            "--alpha has no effect on the method 'mcm': leave it out.",
        ),
        (
            ["--method", "mcm", "--lexicon", "LEXICON"],
            "--lexicon has no effect on the method 'mcm': leave it out.",
        ),
        (["--method", "csp", "--judge", "none"], "--judge has no effect on the method 'csp'"),
        (
            ["--method", "mcm", "--min-frequency", "100"],
            "--min-frequency has no effect on the method 'mcm': leave it out.",
        ),
        (["--method", "energy", "--rule", "mcm"], "--rule has no effect on the method 'energy'"),
        (["--method", "mcm", "--rule", "atd"], "rule must be one of mcm, max_logit,"),
        (
            ["--judge-url", "http://x"],
            "--judge-url has no effect without --judge or --propose openai:MODEL",
        ),
        (["--method", "neglabel", "--drop", "CLASSES"], "--drop has no effect on the method"),
        (["--method", "mcm", "--all-labels"], "--all-labels has no effect on the method 'mcm'"),
        (["--temperature", "1"], "--temperature has no effect on the method 'negrefine'"),
        (["--method", "mcm", "--temperature", "0"], "temperature must be positive"),
        (["--judge", "oracle"], "--judge must be 'wordnet', 'none', 'hf:MODEL'"),
        (["--judge", "replay:nowhere.txt"], "The log 'nowhere.txt' does not exist: give an llm"),
        (["--judge", "replay:CLASSES"], "Line 1 of the log"),
        # Before the encoder is loaded.
        (["--judge", "hf:./nowhere", "--encoder", "./none"], "'./nowhere' is not a directory"),
        (["--judge", "wordnet+hf:EMPTY", "--encoder", "./none"], "holds no config.json"),
        (["--method", "mcm", "--batch-size", "8"], "--batch-size has no effect without --calibr"),
        (["--delta", "0.1"], "--delta has no effect without --calibrate"),
        (["--lexicon", "nowhere.tsv"], "The lexicon 'nowhere.tsv' does not exist"),
        (["--lexicon", "CLASSES"], "has no column 'word'"),
        (["--lexicon", "LEXICON", "--min-frequency", "1"], "--min-frequency works on WordNet only"),
        (["--min-frequency", "100000000"], "No WordNet word reaches"),
        (["--lexicon", "LEXICON", "--lexicon-files", "noun.none"], "has no file 'noun.none'"),
        (["--lexicon", "LEXICON", "--lexicon-files", "all"], "Unknown lexicon preset 'all'"),
        (["--lexicon", "LEXICON", "--n-groups", "0"], "n_groups must be"),
        (["--lexicon", "LEXICON", "--quantile", "2"], "quantile must lie in"),
        (["--lexicon", "LEXICON", "--top-fraction", "-1"], "top_fraction must lie in"),
        (["--lexicon", "LEXICON", "--k", "0"], "k must be"),
        (["--lexicon", "LEXICON", "--seed", "-3"], "seed must be"),
        (["--fpr", "1"], "--fpr must lie strictly between 0 and 1"),
        (["--calibrate", "nowhere"], "nowhere: there is no such file or folder"),
        (["--calibrate", "EMPTY"], "the folder holds no image"),
        (["--method", "mcm", "--calibrate", "BROKEN"], "needs at least 19"),
        (["--out", "CLASSES"], "exists and is not a saved detector"),
        (["--out", "PICTURES"], "exists and is not a saved detector"),
        (["--out", "CLASSES/below/it"], "cannot be written to"),
    ],
)
def test_fit_says_what_is_wrong(
    quick: Any, work: Workspace, tmp_path: Path, options: list[str], said: str
) -> None:
    (tmp_path / "nothing").mkdir()
    places = {
        "LEXICON": work.lexicon,
        "CLASSES": work.classes,
        "EMPTY": tmp_path / "nothing",
        "BROKEN": work.pictures / "empty.png",
        "PICTURES": work.pictures,
    }
    given = []
    for option in options:
        for name, path in places.items():
            if name in option:
                option = option.replace(name, str(path))  # noqa: PLW2901
        given.append(option)
    standard = ["--classes", work.classes, "--out", tmp_path / "d", "--encoder", "builtin"]
    sentence = quick("fit", *standard, *given, cwd=tmp_path).failed()
    assert said in sentence
    assert not (tmp_path / "d").exists()
    # Nothing was left behind anywhere.
    assert sorted(file.name for file in tmp_path.iterdir()) == ["nothing"]


def test_lexicographer_files_one_by_one(quick: Any, work: Workspace, tmp_path: Path) -> None:
    for files, expected in (
        ("noun.plant", {"noun.plant"}),
        ("noun.plant, adj.all,", {"noun.plant", "adj.all"}),
    ):
        done = quick(
            *("fit", "--classes", work.classes, "--out", tmp_path / "d", "--encoder", "builtin"),
            *("--method", "csp", "--lexicon", work.lexicon, "--lexicon-files", files),
            *("--top-fraction", "1", "--n-groups", "2"),
        )
        assert done.code == 0, done.err
        rows = csv.DictReader(io.StringIO(quick("labels", tmp_path / "d").out), delimiter="\t")
        assert {row["lexname"] for row in rows} == expected


def test_without_an_encoder_it_takes_the_one_for_photographs(quick: Any, tmp_path: Path) -> None:
    classes = tmp_path / "classes.txt"
    classes.write_text("dog\ncat\n", encoding="utf-8")
    done = quick("fit", "--classes", classes, "--method", "mcm", "--out", tmp_path / "d")
    assert done.code == 0
    assert done.err.startswith("No --encoder is given: 'builtin-photo'")
    assert done.err.count("\n") == 1
    manifest = json.loads((tmp_path / "d" / "detector.json").read_text(encoding="utf-8"))
    assert manifest["encoder"]["name"] == "builtin-photo"
    named = quick(
        *("fit", "--classes", classes, "--method", "mcm", "--out", tmp_path / "n"),
        *("--encoder", "builtin-photo"),
    )
    assert (named.code, named.err) == (0, "")
    missing = quick(
        *("evaluate", "--id", tmp_path, "--ood", f"x={tmp_path}", "--classes", classes),
        *("--out", tmp_path / "e"),
    )
    assert (missing.code, "Missing option '--encoder'" in missing.err) == (2, True)
