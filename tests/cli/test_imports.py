"""What commands import: no transformers for a usual model, no torch to refuse an argument.

Nor numpy to show help or refuse an option where no detector's parameters are declared.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from cli.workspace import Workspace

# Runs commands one after another; prints for each its exit code and which of these are imported.
CODE = """
import json, sys
import negrefine.cli
for arguments in json.load(sys.stdin):
    sys.argv = ["negrefine", *arguments]
    try:
        negrefine.cli.main()
    except SystemExit as end:
        code = end.code
    heavy = {"torch", "transformers", "scipy", "sklearn", "pyarrow", "pandas", "sympy", "rich"}
    heavy |= {"numpy", "pydantic", "yaml", "ftfy", "huggingface_hub", "jinja2"}
    imported = sorted(heavy & set(sys.modules))
    print("done:", json.dumps([arguments, code, imported]))
"""


def imports(*commands: list[object]) -> list[tuple[list[str], int, list[str]]]:
    """Return for each command itself, its exit code, and what it and those before it imported."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input=json.dumps([list(map(str, command)) for command in commands]),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    results = [
        json.loads(line.removeprefix("done: "))
        for line in done.stdout.splitlines()
        if line.startswith("done: ")
    ]
    assert len(results) == len(commands)
    return [(command, code, imported) for command, code, imported in results]


def test_help_and_a_wrong_option_import_only_what_declares_the_options() -> None:
    light = ["score", "calibrate", "explain", "monitor", "serve", "labels", "demo", "convert-clipn"]
    light += ["compare", "export"]
    nothing = [["--help"], ["nonsense"], ["list"], *([name, "--help"] for name in light)]
    # The parameters of detectors become options.
    declared = ["fit", "refine", "evaluate", "reproduce", "sweep"]
    commands = [
        *nothing,
        *([name, "--nothing"] for name in light),
        ["judge-cache", "stats", "--help"],
        *([name, "--help"] for name in declared),
        *([name, "--nothing"] for name in declared),
        ["benchmark", "run", "--help"],
    ]
    for command, code, imported in imports(*commands):
        assert code == (0 if command[-1] == "--help" else 2), command
        detectors = command[0] in {"judge-cache", "benchmark", *declared}
        assert imported == (["numpy"] if detectors else []), command


def test_scoring_a_picture_imports_little_more_than_torch(work: Workspace) -> None:
    picture = work.pictures / work.good[1]
    missing, score = imports(["score", work.plain, "missing.png"], ["score", work.plain, picture])
    assert missing[1:] == (1, ["numpy", "pydantic"])
    assert score[1:] == (0, ["numpy", "pydantic", "torch"])


def test_a_usual_model_needs_no_transformers(
    work: Workspace, builtin_dir: Path, tmp_path: Path
) -> None:
    picture = work.pictures / work.good[1]
    fit = ["fit", "--classes", work.classes, "--lexicon", work.lexicon, "--encoder"]
    commands = [
        ["score", work.plain, picture],
        ["score", work.detector, picture, "--out", tmp_path / "scores.csv"],
        ["explain", work.detector, picture],
        [*fit, "builtin", "--out", tmp_path / "detector", "--lexicon-files", "full"],
        [*fit[:3], "--encoder", builtin_dir, "--out", tmp_path / "local", "--method", "glmcm"],
        ["score", tmp_path / "local", picture],
    ]
    for command, code, imported in imports(*commands):
        # sympy is there where torch has imported its compiler, which takes another second.
        assert code == 0, command
        assert {"torch"} == set(imported) & {"torch", "transformers", "scipy", "sklearn", "sympy"}


def test_wrong_arguments_are_refused_before_torch_is_imported(
    work: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "clip"}')
    picture = work.pictures / work.good[1]
    score = ["score", work.plain, picture]
    fit = ["fit", "--classes", work.classes, "--out", tmp_path / "out", "--encoder"]
    evaluate = ["evaluate", "--classes", work.classes, "--out", tmp_path / "out", "--id", picture]
    commands = [
        ["score", work.plain, tmp_path / "missing.png"],
        ["score", tmp_path / "empty", picture],
        [*score, "--dtype", "float8"],
        [*score, "--encoder", "built-in"],
        [*score, "--encoder", "./nowhere"],
        [*score, "--report", tmp_path / "page.txt"],
        [*score, "--report-images", "5"],
        [*score, "--sort-into", work.root],
        [*score, "--encoder", tmp_path / "empty"],
        [*score, "--encoder", tmp_path / "other"],
        ["explain", work.detector, tmp_path / "missing.png"],
        ["calibrate", work.plain, "--id", tmp_path / "missing"],
        [*fit, "ViT-B-16"],
        [*fit, "builtin", "--dtype", "float8"],
        [*fit, "builtin", "--resample", "magic"],
        [*fit, "builtin", "--background", "magic"],
        [*fit, "builtin", "--lexicon", tmp_path / "missing.tsv"],
        [*fit, "builtin", "--keep", tmp_path / "missing.txt"],
        [*fit, "builtin", "--calibrate", tmp_path / "missing"],
        [*fit, "builtin", "--method", "mcm", "--k", "3"],
        ["fit", "--classes", tmp_path / "missing.txt", *fit[3:], "builtin"],
        [*evaluate, "--encoder", "builtin", "--ood", f"x={tmp_path / 'missing'}"],
        [*evaluate, "--encoder", "builtin", "--ood", f"x={picture}", "--methods", "magic"],
    ]
    for command, code, imported in imports(*commands):
        assert code == 1, command
        assert not {"torch", "transformers", "scipy", "sklearn", "sympy"} & set(imported), command
