"""`negrefine judge-compare`."""

from __future__ import annotations

import json
from typing import Any

from cli.workspace import Workspace


def test_judges_on_the_labels_of_a_detector_and_on_a_log(quick: Any, work: Workspace) -> None:
    log = work.root / "answers.txt"
    replay = f"replay:{log}"
    vote = f"majority:wordnet+{replay}"
    images = ["--id", work.pictures / "1.png", "--id", work.pictures / "2.png"]
    images += ["--ood", f"far={work.pictures / '3.png'}"]
    given = ("judge-compare", replay, "wordnet", vote, "--labels", work.detector, *images)
    done = quick(*given, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert set(found["kept"]) == {replay, "wordnet", vote}
    assert "poodle" not in {*found["kept"][replay], *found["kept"]["wordnet"]}
    assert {each["first"] for each in found["agreements"]} == {replay, "wordnet"}
    assert [each["judge"] for each in found["results"]] == [replay, "wordnet", vote]
    assert 0 <= found["results"][1]["auroc"]["value"] <= 1
    done = quick("judge-compare", replay, "wordnet", "--log", log)
    assert done.code == 0, done.err
    for part in ("Agreement", "kappa", "Labels kept and removed", "itself", "proper noun"):
        assert part in done.out
    refused = {
        ("wordnet",): "at least two judges",
        ("wordnet", replay): "either --labels DETECTOR_DIR or --log FILE",
        ("wordnet", "none", "--log", log): "'none' is no judge",
        ("wordnet", "wordnet", "--log", log): "named twice",
        ("wordnet", replay, "--log", log, "--id", "x"): "both --id and --ood",
        ("wordnet", replay, "--log", log, "--id", "x", "--ood", "a=x"): "without --labels",
        (
            *("wordnet", "hf:missing", "--labels", work.root / "missing"),
            *("--id", work.pictures / "nothing.png", "--ood", f"far={work.pictures / '3.png'}"),
        ): "nothing.png",
        ("wordnet", "majority:wordnet", "--log", log): "at least two judges, not 1",
        ("wordnet", "oracle", "--log", log): "A JUDGE must be 'wordnet'",
        ("wordnet", replay, "--labels", work.plain): "only 'negrefine' has a filter",
        ("wordnet", replay, "--log", log, "--answers", "a"): "no effect without --judge",
    }
    for arguments, sentence in refused.items():
        assert sentence in quick("judge-compare", *arguments).failed()
