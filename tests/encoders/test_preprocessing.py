"""Pixels: the published code's values, and sizes by a rule written down a second time here."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from negrefine.encoders.images import read_image
from negrefine.encoders.preprocessing import Preprocessing, crop_offset, resized_size
from negrefine.errors import ImageError, InputError

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "open"
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
PLAIN = Preprocessing(rescale_factor=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)


def noise(width: int, height: int) -> Image.Image:
    array = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(array)


@pytest.mark.skipif(not GOLDEN.exists(), reason="the reference outputs are not beside the checkout")
@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
def test_pixels_of_the_published_code(resample: str) -> None:
    config = json.loads((GOLDEN / "model" / "preprocessor_config.json").read_text())
    preprocess = dataclasses.replace(Preprocessing.from_config(config), resample=resample)
    images = json.loads((GOLDEN / "golden.json").read_text())["images"]
    assert len(images) == 40
    for image in images:
        result = preprocess(read_image(GOLDEN / "images" / image["file"], background=None))
        flat = result.reshape(3, -1).astype(np.float64)
        expected = image[resample]
        np.testing.assert_allclose(flat.mean(1), expected["mean"], atol=1e-6, rtol=0)
        np.testing.assert_allclose(flat.std(1, ddof=1), expected["std"], atol=1e-6, rtol=0)
        samples = [name for name in expected if name.startswith("px_")]
        assert len(samples) == 3
        for name in samples:
            row, column = map(int, name.split("_")[1:])
            np.testing.assert_allclose(result[:, row, column], expected[name], atol=1e-6, rtol=0)


def test_values_are_rounded_as_to_tensor_and_normalize_round_them() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = read_image(grey)
    result = Preprocessing(resize=None, crop=None)(image)
    assert result.dtype == np.float32
    assert result.shape == (3, 16, 16)
    for channel in range(3):
        value = grey.astype(np.float32) / np.float32(255)
        expected = (value - np.float32(MEAN[channel])) / np.float32(STD[channel])
        assert (result[channel] == expected).all()


def test_channels_and_axes_keep_their_place() -> None:
    array = np.zeros((2, 3, 3), np.uint8)
    array[1, 2] = (1, 2, 3)
    result = dataclasses.replace(PLAIN, resize=None, crop=None)(Image.fromarray(array))
    assert result.shape == (3, 2, 3)
    assert result[:, 1, 2].tolist() == [1.0, 2.0, 3.0]
    assert result.sum() == 6.0


def test_filters_differ_and_each_is_pillows() -> None:
    image = noise(50, 40)
    for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"):
        result = dataclasses.replace(PLAIN, resize=(8, 10), crop=None, resample=name)(image)
        expected = image.resize((10, 8), Image.Resampling[name.upper()])
        assert (result == np.asarray(expected).transpose(2, 0, 1)).all()


sides = st.integers(1, 400)


@given(width=sides, height=sides, short=st.integers(1, 300))
def test_the_shorter_side_is_met_and_the_longer_truncated(
    width: int, height: int, short: int
) -> None:
    resized = resized_size((width, height), short)
    assert min(resized) == short
    exact = Fraction(short * max(width, height), min(width, height))
    assert max(resized) == exact.numerator // exact.denominator
    assert (resized[0] < resized[1]) <= (width < height)


@given(length=sides, crop=sides)
def test_crop_offsets_round_half_to_even(length: int, crop: int) -> None:
    offset = crop_offset(length, crop)
    if length >= crop:
        nearest = [k for k in range(length) if abs(2 * k - (length - crop)) <= 1]
        assert offset == next(k for k in nearest if len(nearest) == 1 or k % 2 == 0)
        assert 0 <= offset <= length - crop
    else:
        before, after = -offset, crop - length + offset
        assert after - before in (0, 1)


@pytest.mark.parametrize(("excess", "offset"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 2)])
def test_crop_offsets_by_hand(excess: int, offset: int) -> None:
    assert crop_offset(64 + excess, 64) == offset


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    resize=st.one_of(
        st.none(), st.integers(1, 50), st.tuples(st.integers(1, 50), st.integers(1, 50))
    ),
    crop=st.tuples(st.integers(1, 50), st.integers(1, 50)),
)
def test_the_result_has_the_size_of_the_crop(
    width: int, height: int, resize: int | tuple[int, int] | None, crop: tuple[int, int]
) -> None:
    preprocess = dataclasses.replace(PLAIN, resize=resize, crop=crop)
    image = Image.new("RGB", (width, height), (255, 255, 255))
    result = preprocess(image)
    assert result.shape == (3, *crop)
    assert preprocess.output_size == crop
    resized = resized_size((width, height), resize) if resize else (width, height)
    inside = min(resized[0], crop[1]) * min(resized[1], crop[0])
    # White comes from the image, zeros from the padding, nothing else from anywhere.
    assert (result == 255).sum() == 3 * inside
    assert (result == 0).sum() == result.size - 3 * inside


def test_padding_puts_the_odd_pixel_behind() -> None:
    result = dataclasses.replace(PLAIN, resize=None, crop=(3, 6))(
        Image.new("RGB", (3, 3), (255, 255, 255))
    )
    assert result[0, 1].tolist() == [0, 255, 255, 255, 0, 0]


def test_size_without_crop() -> None:
    assert dataclasses.replace(PLAIN, crop=None, resize=(4, 6)).output_size == (4, 6)
    free = dataclasses.replace(PLAIN, crop=None, resize=4)
    assert free.output_size is None
    assert free(noise(10, 5)).shape == (3, 4, 8)
    assert dataclasses.replace(PLAIN, crop=None, resize=None).output_size is None


def test_images_that_would_not_fit_in_memory_are_refused() -> None:
    thread = Image.new("RGB", (1, 30_000))
    with pytest.raises(ImageError, match=r"1 x 30,000 .* resized to 224 x 6,720,000"):
        PLAIN(thread)
    assert dataclasses.replace(PLAIN, resize=8, crop=(8, 8))(thread).shape == (3, 8, 8)


def test_other_modes_are_refused() -> None:
    with pytest.raises(InputError, match="mode RGB, not L;"):
        PLAIN(Image.new("L", (4, 4)))


def test_an_empty_config_is_clips() -> None:
    assert Preprocessing.from_config({}) == Preprocessing()
    assert Preprocessing().as_dict() == {
        "resize": 224,
        "crop": [224, 224],
        "resample": "bicubic",
        "rescale_factor": 1 / 255,
        "mean": list(MEAN),
        "std": list(STD),
    }


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ({"size": 64, "crop_size": 60}, {"resize": 64, "crop": (60, 60)}),
        ({"size": {"shortest_edge": 64}}, {"resize": 64}),
        ({"size": {"shortest_edge": 64, "longest_edge": None}}, {"resize": 64}),
        ({"size": {"height": 30, "width": 40}}, {"resize": (30, 40)}),
        ({"size": [30, 40]}, {"resize": (30, 40)}),
        ({"crop_size": {"height": 30, "width": 40}}, {"crop": (30, 40)}),
        ({"resample": 2}, {"resample": "bilinear"}),
        ({"resample": "BILINEAR"}, {"resample": "bilinear"}),
        ({"resample": None, "image_mean": None}, {}),
        ({"do_resize": False}, {"resize": None}),
        ({"do_center_crop": False}, {"crop": None}),
        ({"do_rescale": False}, {"rescale_factor": 1.0}),
        ({"do_normalize": False}, {"mean": (0.0,) * 3, "std": (1.0,) * 3}),
        ({"image_mean": 0.5, "image_std": [1, 2, 3]}, {"mean": (0.5,) * 3, "std": (1.0, 2.0, 3.0)}),
        ({"image_processor_type": "CLIPImageProcessorFast"}, {}),
        ({"feature_extractor_type": "CLIPFeatureExtractor", "size": 64}, {"resize": 64}),
        ({"image_processor": {"size": 64}, "processor_class": "CLIPProcessor"}, {"resize": 64}),
        (
            {"image_processor_type": "SiglipImageProcessor", "size": 384},
            {"resize": (384, 384), "crop": None, "mean": (0.5,) * 3, "std": (0.5,) * 3},
        ),
    ],
)
def test_configs(config: dict[str, Any], changes: dict[str, Any]) -> None:
    result = Preprocessing.from_config(config)
    assert result == dataclasses.replace(Preprocessing(), **changes)
    json.dumps(result.as_dict())


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"size": 0}, "size must be a whole number.* not 0"),
        ({"size": True}, "size must be .* not True"),
        ({"size": "224"}, "size must be .* not '224'"),
        ({"size": {"longest_edge": 224}}, "size must be .* not {'longest_edge': 224}"),
        ({"size": {"shortest_edge": 224, "longest_edge": 400}}, "size must be .* 400}"),
        ({"size": {"height": 224}}, "size must be .* not {'height': 224}"),
        ({"size": {"height": 224, "width": -1}}, "size must be .* not .*-1}"),
        ({"crop_size": {"shortest_edge": 224}}, "crop_size must be .* not {'shortest_edge': 224}"),
        ({"crop_size": 22.4}, "crop_size must be .* not 22.4"),
        ({"resample": 6}, "resample must be 0 to 5 or one of nearest, .* not 6"),
        ({"resample": "cubic"}, "resample must be .* not 'cubic'"),
        ({"do_resize": "no"}, "do_resize must be True or False, not 'no'"),
        ({"rescale_factor": "1/255"}, "rescale_factor must be a finite number, not '1/255'"),
        ({"rescale_factor": 0}, r"rescale_factor must be positive, not 0\.0"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean must be three numbers, not \[0\.5, 0\.5\]"),
        ({"image_mean": "grey"}, "image_mean must be a finite number, not 'grey'"),
        ({"image_mean": [0.5, 0.5, float("nan")]}, "image_mean must be a finite number, not nan"),
        ({"image_std": [0, 1, 1]}, r"std must be positive, not 0\.0"),
        ({"image_processor_type": "VideoMAEImageProcessor"}, "'VideoMAEImageProcessor'"),
    ],
)
def test_nonsense_is_refused_with_the_field(config: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError, match=names):
        Preprocessing.from_config(config)


@pytest.mark.parametrize(
    "changes", [{"resample": "cubic"}, {"resize": 0}, {"crop": (0, 3)}, {"std": (0.0, 1.0, 1.0)}]
)
def test_replaced_fields_are_checked_too(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        dataclasses.replace(Preprocessing(), **changes)
