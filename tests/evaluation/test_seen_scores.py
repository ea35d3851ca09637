"""An evaluation of a detector whose vision model must see the images."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negrefine import Detector, NegRefine, VisionChecked, metrics
from negrefine.encoders import find_images
from negrefine.encoders.images import read_scored
from negrefine.errors import InputError, JudgeError
from negrefine.evaluation.experiment import evaluate
from negrefine.evaluation.images import find_image_set, find_source_set
from negrefine.evaluation.results import Evaluation
from negrefine.judges.vision import image_key
from negrefine.report.page import write_report
from vision_judges import ScriptedVision


@pytest.fixture(scope="module")
def base(fit: Callable[..., dict[str, Detector]], folders: Path) -> NegRefine:
    detector = fit("negrefine", top_fraction=0.8)["negrefine"]
    assert isinstance(detector, NegRefine)
    return detector.calibrate(find_images([folders / "animals" / "cat"]), 0.4)


def settings() -> dict[str, Any]:
    return {"weight": 0.7, "band": 0.4, "confine": True, "k": 3}


def test_it_is_measured_beside_its_base_and_a_rerun_asks_nothing(
    base: NegRefine, folders: Path, run: Callable[..., Evaluation], tmp_path: Path
) -> None:
    judge = ScriptedVision()
    rows = {"NegRefine": base, "with S_VLM": VisionChecked.of(base, judge, **settings())}
    done = run(tmp_path, rows, baseline="NegRefine")
    alone = VisionChecked.of(base, ScriptedVision(), **settings())
    scores, questions, n_asked = {}, 0, 0
    for each in done.sets:
        paths = [path for path, error in zip(each.paths, each.errors, strict=True) if not error]
        checks = alone.check(paths)
        (found,) = each.readable_scores("with S_VLM")
        np.testing.assert_array_equal(found, checks.scores)
        seen = each.parts["with S_VLM"]["vision"][each.readable]
        np.testing.assert_array_equal(seen, checks.parts["vision"])
        scores[each.name] = found
        questions += checks.n_questions
        n_asked += int(checks.asked.sum())
    assert 0 < n_asked < 48
    assert judge.asked.total() == questions == 6 * n_asked
    (row,) = [r for r in done.results if (r.method, r.ood_set) == ("with S_VLM", "food")]
    expected = metrics.auroc(scores["ID"], scores["food"])
    assert row.auroc.value == pytest.approx(expected, abs=1e-12)
    note = f"with S_VLM: The vision model was asked about {n_asked} of 48 images, {questions} quest"
    assert [each for each in done.settings["notes"] if each.startswith(note)]
    assert done.differences
    # Stored as it is, and nothing is asked again.
    again = ScriptedVision()
    rows["with S_VLM"] = VisionChecked.of(base, again, **settings())
    assert run(tmp_path, rows, baseline="NegRefine").results == done.results
    assert again.asked.total() == 0
    # Another band is another score.
    rows["with S_VLM"] = VisionChecked.of(base, again, **{**settings(), "band": None})
    run(tmp_path, rows)
    assert again.asked.total() == 6 * 48


def test_a_failing_question_costs_its_image_in_all_rows_and_the_next_run_asks_about_it(
    base: NegRefine, folders: Path, run: Callable[..., Evaluation], tmp_path: Path
) -> None:
    foods = find_images([folders / "food"])
    key = image_key(read_scored(base.encoder, foods[3]).convert("RGB"))
    judge = ScriptedVision(fails=[key])
    rows = {"NegRefine": base, "checked": VisionChecked.of(base, judge)}
    done = run(tmp_path, rows)
    food = next(each for each in done.sets if each.name == "food")
    assert food.errors[3] == "no answer about the image: too odd"
    assert [error for error in food.errors if error] == [food.errors[3]]
    assert food.predictions[3] == -1
    for row in rows:
        assert np.flatnonzero(np.isnan(food.scores[row][0])).tolist() == [3]
    (note,) = [each for each in done.settings["notes"] if each.startswith("checked: ")]
    assert "about 48 of 48 images, 192 questions (4.00 for each image); 1 failed." in note
    assert done.provenance is not None
    assert [each.n_readable for each in done.provenance.sets] == [16, 15, 16]
    # All blocks of other sets are stored; only that of the image is asked about again.
    judge.asked.clear()
    judge.fails.clear()
    whole = run(tmp_path, rows)
    assert judge.asked.total() == 4 * 16
    assert all(error is None for error in next(e for e in whole.sets if e.name == "food").errors)
    everything = {image_key(read_scored(base.encoder, path).convert("RGB")) for path in foods}
    lost = {"checked": VisionChecked.of(base, ScriptedVision(fails=sorted(everything)), k=1)}
    with pytest.raises(JudgeError, match=r"No image of food has a score; the first: .* too odd"):
        run(tmp_path, lost)


def test_images_that_are_read_once_are_refused(
    base: NegRefine, folders: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "food.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folders / "food", "food")
    judge = ScriptedVision()
    with pytest.raises(InputError, match=r"'checked' looks at the images .* of food are read"):
        evaluate(
            {"checked": VisionChecked.of(base, judge)},
            find_image_set("animals", folders / "animals"),
            [find_source_set("food", str(archive))],
            out=tmp_path / "out",
        )
    assert judge.asked.total() == 0
    assert not (tmp_path / "out").exists()


def test_what_is_saved_says_what_was_asked(
    base: NegRefine, run: Callable[..., Evaluation], tmp_path: Path
) -> None:
    done = run(tmp_path, {"checked": VisionChecked.of(base, ScriptedVision(), **settings())})
    # A judge of one's own is not loaded again to explain mistakes.
    page = write_report(done, tmp_path / "report.html", encoder=base.encoder, n_mistakes=4)
    text = page.read_text(encoding="utf-8")
    assert "is not saved with its detector" in " ".join(text.split())
    assert "vision nan" not in text
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert any("questions" in note for note in content["settings"]["notes"])
    assert content["settings"]["methods"]["checked"]["vision"] == {"unsaved": "scripted"}
