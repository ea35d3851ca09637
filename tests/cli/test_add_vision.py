"""`negrefine add-vision`, and the commands on the detector that it makes."""

from __future__ import annotations

import csv
import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.workspace import Workspace
from judges.chat_server import Server, message
from judges.tiny_vision import save_vision_model
from negrefine.benchmarks.bundled import demo_images
from negrefine.cli.app import app
from negrefine.errors import NegrefineError
from negrefine.serving.app import create_app
from negrefine.serving.settings import Settings


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server of a model that sees things at random."""
    started = Server()
    started.reply = lambda question, _: message(
        "Yes" if zlib.crc32(question.encode()) % 2 else "No"
    )
    monkeypatch.setenv("OPENAI_BASE_URL", started.url)
    monkeypatch.setenv("NEGREFINE_CACHE", str(tmp_path / "cache"))
    yield started
    started.close()


@pytest.fixture
def call() -> Callable[..., Any]:
    """Runs a command in this process."""

    def call(*arguments: object) -> Any:
        done = CliRunner().invoke(app, list(map(str, arguments)))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return call


def test_a_detector_with_vision_is_calibrated_scored_and_explained(
    call: Any, work: Workspace, server: Server, tmp_path: Path
) -> None:
    checked = tmp_path / "checked"
    done = call(
        *("add-vision", work.detector, "--vision", "openai:m", "--out", checked),
        *("--vision-weight", 0.8, "--vision-rule", "class"),
    )
    assert "'openai:m' is asked about every image" in done.stdout
    assert "calibrate it" in done.stdout
    assert server.asked.total() == 0
    done = call("calibrate", checked, "--id", work.root / "calibration", "--fpr", 0.2)
    assert "6 of 6 images, 12 questions (2.00 for each image)" in done.stderr
    assert server.asked.total() == 12
    results = tmp_path / "scores.csv"
    folder = tmp_path / "pictures"
    shutil.copytree(work.pictures, folder)
    done = call("score", checked, folder, "--out", results)
    n = len(work.good)
    assert f"asked about {n} of {n} images, {2 * n} questions" in done.stderr
    assert "verdicts differ from those without it" in done.stderr
    rows = list(csv.DictReader(results.read_text(encoding="utf-8").splitlines()))
    good = [row for row in rows if row["score"]]
    assert len(good) == n
    assert len(rows) == n + len(work.broken)
    for row in good:
        parts = [float(row[name]) for name in ("neglabel", "multi_match", "vision")]
        expected = parts[0] + 2 * (0.2 * parts[1] + 0.8 * parts[2])
        assert float(row["score"]) == pytest.approx(expected)
        assert row["verdict"] in {"ID", "OOD"}
        assert 0 < float(row["p_value"]) <= 1
    # Everything that was asked is stored.
    asked = server.asked.total()
    (image,) = [row["path"] for row in good[:1]]
    (line,) = call("explain", checked, image, "--json").stdout.splitlines()
    explained = json.loads(line)
    assert explained["score"] == pytest.approx(float(good[0]["score"]))
    assert len(explained["vision"]["classes"]) == 2
    assert "The vision model 'openai:m' sees" in call("explain", checked, image).stdout
    assert server.asked.total() == asked


def test_a_failing_question_is_one_row_and_images_of_archives_are_seen(
    call: Any, work: Workspace, server: Server, tmp_path: Path
) -> None:
    checked = tmp_path / "checked"
    call("add-vision", work.detector, "--vision", "openai:m", "--out", checked)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in work.good[:3]:
        shutil.copy(work.pictures / name, folder)
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    seen: list[str] = []

    def fails(handler: Any, question: str, _: Any) -> bool:
        url = json.loads(question)[0]["image_url"]["url"]
        if url not in seen:
            seen.append(url)
        if len(seen) > 1 and url == seen[1]:
            handler.send(400, {"error": {"message": "too odd"}})
            return True
        return False

    server.behave = fails
    out = tmp_path / "scores.jsonl"
    done = call("score", checked, archive, "--out", out)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["score"] is None for row in rows].count(True) == 1
    (failed,) = [row for row in rows if row["score"] is None]
    assert "too odd" in failed["error"]
    assert "1 failed" in done.stderr
    lines = call("explain", checked, folder, "--json").stdout.splitlines()
    assert ["error" in json.loads(line) for line in lines].count(True) == 1


def test_a_model_in_this_process(
    call: Any, work: Workspace, server: Server, tmp_path: Path
) -> None:
    model = save_vision_model(tmp_path / "llava", "llava", decided=True)
    checked = tmp_path / "checked"
    call(
        *("add-vision", work.detector, "--vision", f"hf:{model}", "--out", checked),
        *("--band", 10, "--grey", "--confine", "--device", "cpu"),
    )
    out = tmp_path / "scores.csv"
    done = call("score", checked, work.pictures / work.good[1], "--out", out, "--device", "cpu")
    (row,) = csv.DictReader(out.read_text(encoding="utf-8").splitlines())
    assert row["score"]
    assert "1 of 1 images, 4 questions" in done.stderr
    # Another model in its place is not the one that was saved.
    shutil.rmtree(model)
    save_vision_model(tmp_path / "llava", "llava")
    with pytest.raises(NegrefineError, match="not the one that this detector was saved with"):
        call("score", checked, work.pictures / work.good[2], "--device", "cpu")
    assert server.asked.total() == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--vision", "gpt"], "must be 'hf:MODEL' or 'openai:MODEL'"),
        (["--vision", "hf:./nowhere"], "is not a directory"),
    ],
)
def test_wrong_models_are_refused(
    call: Any, work: Workspace, tmp_path: Path, arguments: list[str], problem: str
) -> None:
    with pytest.raises(NegrefineError, match=problem):
        call("add-vision", work.detector, "--out", tmp_path / "x", *arguments)


def test_what_works_on_features_alone_refuses_it(
    call: Any, work: Workspace, server: Server, tmp_path: Path
) -> None:
    checked = tmp_path / "checked"
    call("add-vision", work.detector, "--vision", "openai:m", "--out", checked)
    # What is about its labels is that of NegRefine.
    assert call("labels", checked).stdout == call("labels", work.detector).stdout != ""
    with pytest.raises(NegrefineError, match="another model looks at the images"):
        call("export", checked, "--onnx", tmp_path / "x.onnx")
    with pytest.raises(NegrefineError, match="asks a vision model about images, which the server"):
        create_app({"x": checked}, Settings(), say=print, device="cpu")
    with pytest.raises(NegrefineError, match="made from a fitted NegRefine"):
        call("add-vision", checked, "--vision", "openai:m", "--out", tmp_path / "y")
    with pytest.raises(NegrefineError, match="made from a fitted NegRefine"):
        call("add-vision", work.plain, "--vision", "openai:m", "--out", tmp_path / "y")
    with pytest.raises(NegrefineError, match="give another folder"):
        call("add-vision", work.detector, "--vision", "openai:m", "--out", work.detector)
    assert server.asked.total() == 0


def test_tune_asks_once_for_all_candidates(
    call: Any, work: Workspace, server: Server, tmp_path: Path
) -> None:
    checked, out = tmp_path / "checked", tmp_path / "tuned"
    call("add-vision", work.detector, "--vision", "openai:m", "--out", checked)
    sets: dict[str, Path] = {}
    names = iter(picture.path for picture in demo_images()[::7])
    for name, n in {"id": 5, "food": 5, "more": 4, "other": 4}.items():
        sets[name] = tmp_path / name
        sets[name].mkdir()
        for _ in range(n):
            shutil.copy(next(names), sets[name])
    (sets["id"] / "broken.png").write_bytes(b"nothing")
    given = ["tune", checked, "--id", sets["id"], "--validation", f"food={sets['food']}"]
    grid = ["--vision-k", "1,2", "--vision-weight", "0,1", "--alpha", "1,2", "--band", "none,1e-9"]
    tests = ["--test-id", sets["more"], "--ood", f"other={sets['other']}"]
    done = call(*given, *grid, *tests, "--best", "--bootstrap", "30", "--out", out, "--json")
    assert "1 of 6 images of in-distribution could not be read" in done.stderr
    found = json.loads(done.stdout)
    rows = found["candidates"]
    # Two without questions; weight 1 with each k, band and alpha; and the detector's own.
    assert len(rows) == 2 + 2 * 2 * 2 + 1
    assert rows[0]["values"] == {"band": None, "k": 2, "alpha": 2, "weight": 0.5}
    assert {0, 2, 4} <= {row["id_questions"] for row in rows}
    # At most four questions about each of ten images, however many candidates.
    assert found["questions"] == 4 * 10
    asked_on_tests = 4 * 8 if found["chosen"] else 0
    assert 40 <= server.asked.total() <= 40 + asked_on_tests
    saved = json.loads((out / "detector.json").read_text())
    assert saved["vision_tuning"] == found["tuning"]
    assert found["tuning"]["chosen"] == rows[found["chosen"]]["values"]
    asked = server.asked.total()
    text = call(*given, *grid, "--bootstrap", "30", "--out", tmp_path / "again").stdout
    assert "The vision model was asked 40 questions for all of them." in text
    assert re.search(r"band none +│ .* │ +4\.00 │\n│ k 2 .* │ +4\.00 │\n│ alpha 2 ", text)
    assert server.asked.total() == asked
    for name in ("id", "food"):
        with pytest.raises(NegrefineError, match="tuned on: calibrate with others"):
            call("calibrate", out, "--id", sets[name], "--fpr", 0.3)
    for wrong, problem in {
        ("--k", "1"): "--k has no effect on a 'vision-checked' detector",
        ("--alpha-images", sets["more"]): "--alpha-images has no effect",
        ("--band", "wide"): "--band takes numbers separated by commas",
    }.items():
        with pytest.raises(NegrefineError, match=problem):
            call(*given, *wrong)
    with pytest.raises(NegrefineError, match="--band has no effect on a 'negrefine' detector"):
        call("tune", work.detector, *given[2:], "--band", "0.1")


def test_evaluate_measures_it_beside_its_base(
    call: Any, work: Workspace, server: Server, tmp_path: Path
) -> None:
    checked, out = tmp_path / "checked", tmp_path / "results"
    call("add-vision", work.detector, "--vision", "openai:m", "--out", checked)
    names = [picture.path for picture in demo_images()[::20]]
    for folder, paths in {"id": names[:6], "food": names[6:11]}.items():
        (tmp_path / folder).mkdir()
        for path in paths:
            shutil.copy(path, tmp_path / folder)
    given = ["evaluate", "--classes", work.classes, "--encoder", "builtin", "--report"]
    given += ["--id", tmp_path / "id", "--ood", f"food={tmp_path / 'food'}", "--out", out]
    rows = ["--detector", f"S_MM={work.detector}", "--detector", f"S_VLM={checked}"]
    options = ["--baseline", "S_MM", "--bootstrap", "20"]
    done = call(*given, "--methods", "none", *rows, *options)
    assert "Note: S_VLM: The vision model was asked about 11 of 11 images, 44" in done.stdout
    assert server.asked.total() == 44
    content = json.loads((out / "evaluation.json").read_text())
    assert list(content["settings"]["methods"]) == ["S_MM", "S_VLM"]
    assert {row["method"] for row in content["differences"]} == {"S_VLM"}
    done = call(*given, "--methods", "mcm", *rows, *options)
    assert server.asked.total() == 44
    refused = {
        ("--methods", "none"): "There is no method 'none'",
        ("--methods", "mcm", "--detector", f"mcm={checked}"): "'mcm' is one of --methods",
        ("--methods", "none", "--detector", str(checked)): "--detector takes NAME=DETECTOR_DIR",
    }
    for arguments, problem in refused.items():
        with pytest.raises(NegrefineError, match=problem):
            call(*given, *arguments)
    other = tmp_path / "classes.txt"
    other.write_text("dog\ncat\n", encoding="utf-8")
    with pytest.raises(NegrefineError, match="'S_MM' was not fitted on the class names"):
        call(*given, "--classes", other, "--methods", "none", *rows)
