"""Memory that runs out in the middle of a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from negrefine.cli.app import main
from negrefine.detectors import Detector, detector
from negrefine.detectors.registry import DETECTORS
from negrefine.errors import EncoderError, is_out_of_memory
from negrefine.pretrained.loading import loading


def torch_without_memory() -> object:
    return torch.empty(1 << 50)


def cuda_without_memory() -> object:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def wrong_shapes() -> object:
    return torch.ones(2, 3) @ torch.ones(2, 3)


ACTIONS = [torch_without_memory, cuda_without_memory]


@pytest.mark.parametrize("action", ACTIONS)
def test_one_sentence_when_memory_runs_out(
    action: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    @detector
    class Greedy(Detector):
        """Needs more memory than there is."""

        method, title, paper = "greedy", "Greedy", "none"
        parts = ("greedy",)

        def fit(self, *args: Any, **options: Any) -> Greedy:  # noqa: ARG002
            action()
            return self

        def compute_part(self, name: str, images: Any) -> Any:
            raise NotImplementedError

    monkeypatch.setitem(DETECTORS, "greedy", Greedy)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    arguments = [
        "fit",
        "--encoder",
        "builtin",
        "--classes",
        "names.txt",
        "--method",
        "greedy",
        "--out",
        "saved",
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["negrefine", *arguments])
    monkeypatch.setattr("warnings.showwarning", None)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert capsys.readouterr().err == (
        "negrefine: error: the memory is full: give a smaller --batch-size, or a smaller model.\n"
    )


def test_other_errors_of_torch_say_nothing_of_memory() -> None:
    for action in ACTIONS:
        with pytest.raises(RuntimeError) as caught:
            action()
        assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError) as other:
        wrong_shapes()
    assert not is_out_of_memory(other.value)
    assert is_out_of_memory(MemoryError())


@pytest.mark.parametrize("action", ACTIONS)
def test_weights_that_do_not_fit_into_memory_are_not_called_damaged(
    action: Callable[[], object],
) -> None:
    with (
        pytest.raises(EncoderError, match=r"^It fails: the memory is full; give a smaller model"),
        loading("It fails", "the files are damaged", EncoderError),
    ):
        action()
