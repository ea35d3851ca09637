"""Arguments of a wrong type: one sentence for each, and no traceback of something inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from negrefine import MCM, HFJudge, NegRefine, load_detector, load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.errors import EncoderError, InputError


@pytest.mark.parametrize(
    "name", [None, 3, True, b"", b"builtin", "", " ", ["builtin"], CLIPEncoder]
)
def test_what_is_no_name_of_an_encoder(name: Any) -> None:
    with pytest.raises(
        EncoderError, match=r"^load_encoder takes the name of an encoder, not "
    ) as e:
        load_encoder(name)
    assert "give 'builtin', the directory of a CLIPModel, or a hub id" in str(e.value)
    assert "\n" not in str(e.value)


def test_a_loaded_encoder_in_place_of_its_name(builtin_encoder: CLIPEncoder) -> None:
    with pytest.raises(EncoderError, match="not a loaded encoder"):
        load_encoder(builtin_encoder)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["x" * 5000, "a/" + "y" * 300])
def test_a_name_that_no_file_can_have(name: str) -> None:
    with pytest.raises(EncoderError, match="is neither a directory nor a hub id"):
        load_encoder(name)
    with pytest.raises(InputError, match="is neither a directory nor a hub id"):
        _ = HFJudge(name).identity


@pytest.mark.parametrize(
    "device", ["meta", torch.device("meta"), None, b"cpu", "", "hpu", 1.5, ["cpu"], "cpu:x"]
)
def test_devices_that_cannot_be_used(device: Any) -> None:
    with pytest.raises(EncoderError, match=r"cannot be used here: use 'auto'.* or '") as caught:
        load_encoder("builtin", device=device)
    assert str(caught.value).startswith(f"The device {device!r} cannot")
    with pytest.raises(InputError, match="cannot be used here"):
        _ = HFJudge("some/model", revision="a" * 40, device=device).identity


def test_a_device_has_nothing_to_do_with_a_saved_detector(
    builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    MCM(builtin_encoder).fit(["cat", "dog"]).save(tmp_path / "saved")
    with pytest.raises(
        EncoderError, match=r"^The device 'toaster' cannot be used here: use 'auto'"
    ):
        load_detector(tmp_path / "saved", device="toaster")
    with pytest.raises(EncoderError, match=r"^dtype must be 'auto' or one of .*, not 'float8'"):
        load_detector(tmp_path / "saved", dtype="float8")


@pytest.mark.parametrize(
    "options",
    [
        {"exif_orientation": None},
        {"exif_orientation": "no"},
        {"truncate": "yes"},
        {"compile_images": 1},
        {"revision": 3},
        {"revision": ""},
        {"cache": 3},
        {"cache": b"file"},
    ],
)
def test_options_of_other_types(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(options))} must be"):
        load_encoder("builtin", **options)


@pytest.mark.parametrize("wrong", [CLIPEncoder, MCM, None, 3, load_encoder])
def test_what_is_no_encoder(wrong: Any, builtin_encoder: CLIPEncoder, tmp_path: Path) -> None:
    said = "^encoder must be what load_encoder returns or an object with encode_images and"
    for method in (MCM, NegRefine):
        with pytest.raises(InputError, match=said) as caught:
            method(wrong).fit(["cat", "dog"])
        assert not isinstance(wrong, type) or f"the class {wrong.__name__}" in str(caught.value)
    MCM(builtin_encoder).fit(["cat", "dog"]).save(tmp_path / "saved")
    if wrong is not None:
        with pytest.raises(InputError, match=said):
            load_detector(tmp_path / "saved", encoder=wrong)


def test_a_model_is_shown_by_its_class(builtin_encoder: CLIPEncoder) -> None:
    with pytest.raises(InputError, match=r"encode_texts, not a PlainCLIPModel\.$"):
        MCM(builtin_encoder._model).fit(["cat", "dog"])  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [None, 3, CLIPEncoder])
def test_what_is_no_list_of_names(wrong: Any, builtin_encoder: CLIPEncoder) -> None:
    with pytest.raises(InputError, match="class_names must be a list of names, not a value of"):
        MCM(builtin_encoder).fit(wrong)
    with pytest.raises(InputError, match="of type CLIPEncoder"):
        MCM(builtin_encoder).fit(builtin_encoder)  # type: ignore[arg-type]
