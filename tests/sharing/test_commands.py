"""The commands that share detectors, in processes of their own as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sharing.conftest import Hub
from tests.sharing.fake_hub import TOKEN
from typer.testing import CliRunner

from commands import run
from negrefine import Detector, load_detector
from negrefine.cli.app import app
from negrefine.cli.serve import by_name
from negrefine.detectors.hub import local_bundle, push_detector
from negrefine.errors import NegrefineError

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def calibrated(detectors: dict[str, Detector], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a detector with a threshold; do not change it."""
    folder = tmp_path_factory.mktemp("calibrated") / "detector"
    detector = load_detector(_saved(detectors["mcm"], folder))
    detector.calibrate_scores([0.1 + i / 100 for i in range(40)], fpr=0.1)
    detector.save(folder)
    return folder


def _saved(detector: Detector, folder: Path) -> Path:
    detector.save(folder)
    return folder


@pytest.fixture
def command(hub: Hub) -> Callable[..., str]:
    """Runs a command in this process, and returns its output or raises its error."""

    def command(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return command


def test_push_and_score_as_a_user_does(
    hub: Hub, command: Callable[..., str], calibrated: Path, demo_pictures: list[Path]
) -> None:
    environment = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(hub.cache),
        "HF_HUB_DISABLE_XET": "1",
    }
    pushed = run("push", calibrated, "ann/command", "--licence", "mit", **environment)
    assert pushed.code == 0, pushed
    address = pushed.out.removeprefix("Pushed to ").strip()
    assert address.startswith("hf://ann/command@")
    scored = run("score", "hf://ann/command", *demo_pictures[:2], **environment)
    assert scored.code == 0, scored
    assert scored.out == command("score", calibrated, *demo_pictures[:2])
    with pytest.raises(NegrefineError, match="no repository 'ann/nothing' that you may see"):
        command("score", "hf://ann/nothing", demo_pictures[0])
    # Neither tokens nor bars.
    assert pushed.err == ""
    assert scored.err == f"The detector is {address}\n"


def test_commands_that_read_a_detector(
    command: Callable[..., str], calibrated: Path, tmp_path: Path
) -> None:
    address = push_detector(calibrated, "ann/read")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"path": "a.png", "p_value": 21 / 41, "verdict": "ID"}) + "\n")
    assert "1 image" in command("monitor", address, rows)
    card = command("card", "hf://ann/read")
    assert "negrefine score hf://ann/read images/" in card
    assert "40 calibration images" in card
    with pytest.raises(NegrefineError, match="has no negative labels"):
        command("labels", address)
    named = by_name(["hf://ann/read@main", "a=hf://ann/read", "b=/some/where"])
    assert [*named] == ["read", "a", "b"]
    assert str(local_bundle(named["a"])) == str(local_bundle(named["read"]))


def test_what_would_be_saved_in_its_place_is_pulled_first(
    command: Callable[..., str], calibrated: Path, tmp_path: Path, demo_pictures: list[Path]
) -> None:
    address = push_detector(calibrated, "ann/pulled")
    with pytest.raises(NegrefineError, match="make a copy with 'negrefine pull'"):
        command("calibrate", "hf://ann/pulled", "--id", *demo_pictures[:1])
    with pytest.raises(NegrefineError, match="'negrefine pull', or give --out"):
        command("refine", "hf://ann/pulled")
    mine = tmp_path / "mine"
    assert f"Saved {address} in {mine}" in command("pull", "hf://ann/pulled", "--out", mine)
    copied = {file.name: file.read_bytes() for file in mine.iterdir()}
    assert copied == {file.name: file.read_bytes() for file in calibrated.iterdir()}
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(NegrefineError, match="is not a saved detector: choose another path"):
        command("pull", address, "--out", other)
    with pytest.raises(NegrefineError, match=r"no address on the hub: give one such as .hf:"):
        command("pull", mine, "--out", other)


def test_a_card_replaces_only_cards(
    command: Callable[..., str], calibrated: Path, tmp_path: Path
) -> None:
    file = tmp_path / "README.md"
    command("card", calibrated, "--out", file)
    before = file.read_text()
    command("card", calibrated, "--out", file, "--licence", "mit")
    assert "license: mit" in file.read_text()
    assert "license" not in before.split("---\n")[1]
    file.write_text("# Mine\n")
    with pytest.raises(NegrefineError, match="is no card, or was edited by hand"):
        command("card", calibrated, "--out", file)
    assert file.read_text() == "# Mine\n"
    with pytest.raises(NegrefineError, match="no identifier of a licence"):
        command("card", calibrated, "--licence", "My own")
