"""`negrefine reproduce --dry-run`: every step but the numbers, on random weights and noise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.cli.output import say
from negrefine.errors import InputError, NegrefineError

if TYPE_CHECKING:
    from negrefine.benchmarks.practice import Practice

_METHODS = ("mcm", "glmcm", "neglabel", "csp", "negrefine")
_N_STEPS = 10
_SEEDS = (0, 1)


class DryRunError(NegrefineError):
    """A step of the dry run did not do what it should."""


def dry_run_of_reproduce(out: Path | None) -> None:
    """Prove the steps in a folder, which is kept, or in a temporary one."""
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{str(out)!r} holds other files: name an empty or a new folder.")
    say(
        "A dry run on random weights and generated images: it proves the steps, and its numbers "
        "mean nothing. Less than a minute on a machine that is not busy.",
        err=True,
    )
    with _folder(out) as folder:
        _DryRun(folder).prove()
    say("Every step works. The numbers of this run mean nothing: its weights are random.")
    if out is not None:
        say(f"What it wrote is in {out}.")


class _DryRun:
    """The steps, in the order of a real reproduction."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._started, self._number = folder, time.monotonic(), 0
        self._out = folder / "reproduced"

    def prove(self) -> None:
        from negrefine.benchmarks.practice import make_practice

        self._say("make random weights, words, recorded answers and images in the real layouts")
        practice = make_practice(self._folder / "practice")
        self._say("check the images: each set is found in its layout")
        sets = _check_images(practice.data)
        self._say("plan: what is needed, with the images that are there")
        self._ran(self._command("--plan", "--data", str(practice.data)))
        self._say("evaluate, and kill the process (SIGKILL) in the middle")
        arguments = self._arguments(practice)
        kept = self._kill_in_the_middle(arguments)
        self._say("start it again: it continues, and what was finished stays as it is")
        self._ran(self._command(*arguments, "--out", str(self._out)))
        changed = [str(file) for file, state in kept.items() if _state(file) != state]
        _demand(not changed, f"the second start wrote {', '.join(changed)} again.")
        self._say("run it undisturbed elsewhere: the numbers are the same")
        self._ran(self._command(*arguments, "--out", str(self._folder / "undisturbed")))
        self._check_same()
        self._say("CLIPN, which has weights of its own (one prompt of its 128, to save time)")
        self._ran(self._command(*self._clipn(practice)))
        self._say("recorded answers: they alone decided which labels were removed")
        self._check_answers(practice)
        self._say("results: every method on every set, also for 'negrefine compare'")
        self._check_results(sets)
        self._say("compare with the paper, cell by cell")
        self._check_cells()

    def _say(self, text: str) -> None:
        self._number += 1
        seconds = time.monotonic() - self._started
        say(f"[{self._number}/{_N_STEPS}, {seconds:.0f} s] {text} ...", err=True)

    def _arguments(self, practice: Practice) -> list[str]:
        return [
            *("--data", str(practice.data), "--encoder", str(practice.encoder)),
            *("--lexicon", str(practice.lexicon), "--methods", ",".join(_METHODS)),
            *("--judge", f"replay:{','.join(map(str, practice.answers))}", "--allow-incomplete"),
            *("--seeds", ",".join(map(str, _SEEDS)), "--bootstrap", "0", "--no-report"),
            *("--device", "cpu"),
        ]

    def _clipn(self, practice: Practice) -> list[str]:
        return [
            *("--data", str(practice.data), "--encoder", str(practice.clipn), "--device", "cpu"),
            *("--methods", "clipn", "--only", "main", "--prompts", str(practice.prompts)),
            *("--allow-incomplete", "--bootstrap", "0", "--no-report"),
            *("--out", str(self._folder / "clipn")),
        ]

    def _command(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `negrefine reproduce` with stored embeddings of its own."""
        log = (self._folder / "output.txt").open("ab")
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", "negrefine", "reproduce", *arguments],
                env={**os.environ, "NEGREFINE_CACHE": str(self._folder / "cache")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _ran(self, process: subprocess.Popen[bytes]) -> None:
        try:
            code = process.wait()
        finally:
            process.kill()
        lines = (self._folder / "output.txt").read_text(encoding="utf-8", errors="replace")
        _demand(code == 0, f"it ended with code {code}: {lines.strip()[-600:]}")

    def _kill_in_the_middle(self, arguments: list[str]) -> dict[Path, tuple[int, int]]:
        """Return the finished files of the killed process, with their states."""
        process = self._command(*arguments, "--out", str(self._out))
        first = self._out / "features" / "00-ID" / "00000.safetensors"
        try:
            while not first.exists() and process.poll() is None:
                time.sleep(0.01)
        finally:
            process.kill()
        code = process.wait()
        if not first.exists():
            self._ran(process)
        _demand(code != 0, "the process had ended before it could be killed.")
        _demand(not (self._out / "reproduce.json").exists(), "the killed run has results.")
        finished = [self._out / folder for folder in ("features", "parts")]
        files = [file for folder in finished for file in sorted(folder.rglob("*.safetensors"))]
        return {file: _state(file) for file in files}

    def _check_answers(self, practice: Practice) -> None:
        for seed in _SEEDS:
            row = "negrefine" if seed == _SEEDS[0] else f"negrefine (seed {seed})"
            labels = _saved_labels(self._out, row)
            recorded = {each["word"] for each in labels} & practice.proper_nouns
            removed = {each["word"] for each in labels if each["removed_by"] is not None}
            _demand(bool(recorded), "none of the mined labels has a recorded answer.")
            _demand(
                removed == recorded,
                f"{len(removed)} labels were removed, and {len(recorded)} have a recorded yes.",
            )

    def _check_same(self) -> None:
        folders = self._out, self._folder / "undisturbed"
        both = [_read(folder / "results.json")["results"] for folder in folders]
        _demand(both[0] == both[1], "the interrupted run has other numbers.")

    def _check_results(self, sets: list[str]) -> None:
        from negrefine.benchmarks.draws import undrawn
        from negrefine.evaluation.comparison import compare

        results = _read(self._out / "results.json")["results"]
        found = {(undrawn(row["method"]), row["ood_set"]) for row in results}
        missing = [f"{m} on {s}" for m in _METHODS for s in sets if (m, s) not in found]
        _demand(not missing, f"there is no result of {', '.join(missing)}.")
        compare([self._out, self._folder / "undisturbed"])

    def _check_cells(self) -> None:
        for folder, is_clipn in ((self._out, False), (self._folder / "clipn", True)):
            content = _read(folder / "reproduce.json")
            cells = [c for c in content["cells"] if (c["method"] == "clipn") == is_clipn]
            states = {cell["state"] for cell in cells}
            _demand(
                states == {"not comparable"},
                f"its cells are {', '.join(sorted(states))}, and should be not comparable.",
            )
            warnings = " ".join(content["warnings"])
            _demand(
                "random weights: numbers mean nothing" in warnings, "nothing warns of the weights."
            )
            say(f"{', '.join(content['settings']['methods'])}: {content['summary']}")


def _check_images(data: Path) -> list[str]:
    """Return the titles of the OOD sets, all of which are there."""
    from negrefine.benchmarks import check, load_benchmark

    benchmark = load_benchmark("imagenet-1k-all")
    lost = [each.problem for each in check(benchmark, data) if not each.found]
    _demand(not lost, " ".join(lost))
    return [dataset.title for dataset in benchmark.ood_sets]


def _saved_labels(out: Path, row: str) -> list[dict[str, Any]]:
    """Return the mined labels of a row of the evaluation, kept and removed."""
    from negrefine.evaluation.results import detector_directory

    folder = out / "detectors" / detector_directory(row)
    (file,) = folder.glob("negative_labels-*.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _state(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_ino, stat.st_mtime_ns


def _demand(is_so: bool, problem: str) -> None:
    if not is_so:
        raise DryRunError(f"The dry run failed: {problem}")


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        yield out.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="negrefine-dry-run-") as folder:
        yield Path(folder)
