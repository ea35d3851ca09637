"""Images in batches of any size give blocks of one size, from any encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from negrefine import MCM, load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.encoders.batches import encode_batches, equal_blocks, iter_encoded_images
from negrefine.errors import ImageError, InputError


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8), rows=st.integers(1, 7))
def test_blocks_hold_the_same_rows(sizes: list[int], rows: int) -> None:
    values = np.arange(sum(sizes) * 2, dtype=np.float32).reshape(-1, 2)
    parts = np.split(values, np.cumsum(sizes)[:-1])
    blocks = list(equal_blocks(((part, part[:, None] * 3) for part in parts), rows))
    np.testing.assert_array_equal(np.concatenate([features for features, _ in blocks]), values)
    for features, patches in blocks:
        assert patches is not None
        np.testing.assert_array_equal(patches, features[:, None] * 3)
    lengths = [len(features) for features, _ in blocks]
    assert lengths[:-1] == [rows] * (len(blocks) - 1)
    assert 0 < lengths[-1] <= rows or lengths == [0]


class OwnEncoder:
    """A user's own encoder: what the protocol asks for and nothing else."""

    def __init__(self, encoder: CLIPEncoder) -> None:
        self._encoder = encoder
        self.name, self.options = "own", {}
        self.fingerprint, self.logit_scale = "own", encoder.logit_scale
        self.most = 0

    def encode_images(self, images: Sequence[Any], batch_size: int = 64) -> Any:
        self.most = max(self.most, len(images))
        return self._encoder.encode_images(images, batch_size)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 1024) -> Any:
        return self._encoder.encode_texts(texts, batch_size)


def test_own_encoders_get_bounded_slices(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("negrefine.encoders.batches._SLICE", 5)
    own = OwnEncoder(builtin_encoder)
    names = ["cat", "dog", "bird"]
    expected = MCM(builtin_encoder).fit(names).score_samples(demo_pictures)
    scores = MCM(own).fit(names).score_samples(demo_pictures)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert own.most == 5
    assert MCM(own).fit(names).score_samples([]).shape == (0,)


class MeanColour:
    """The smallest encoder: reads its own files, and cannot take an empty list."""

    name, options, fingerprint, logit_scale = "mean colour", {}, "1", 100.0

    def encode_images(self, images: Sequence[Any], batch_size: int = 64) -> Any:  # noqa: ARG002
        return np.stack([self._mean(image) for image in images])

    def _mean(self, image: Any) -> Any:
        if isinstance(image, Path):
            with Image.open(image) as opened:
                image = opened.convert("RGB")
        return np.asarray(image, dtype=np.float32).mean((0, 1))

    def encode_images_and_patches(self, images: Sequence[Any], batch_size: int = 64) -> Any:
        features = self.encode_images(images, batch_size)
        return features, np.stack([features, -features], axis=1)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 1024) -> Any:  # noqa: ARG002
        return np.array([[len(text), 1, 2] for text in texts], dtype=np.float32)


@pytest.mark.parametrize("patches", [False, True])
@pytest.mark.parametrize("slice_size", [1, 3, 256])
def test_any_encoder_carries_on_past_unreadable_images(
    patches: bool,
    slice_size: int,
    demo_pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("negrefine.encoders.batches._SLICE", slice_size)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    images = [broken, *demo_pictures[:3], tmp_path / "missing.png", demo_pictures[3], broken]
    batches = list(iter_encoded_images(MeanColour(), images, 2, patches=patches))
    errors = [error for batch in batches for error in batch.errors]
    assert [i for i, error in enumerate(errors) if error is not None] == [0, 4, 6]
    assert isinstance(errors[0], ImageError)
    assert "broken.png" in str(errors[0])
    assert "no such file" in str(errors[4])
    expected, expected_patches = MeanColour().encode_images_and_patches(demo_pictures[:4])
    np.testing.assert_array_equal(np.concatenate([b.features for b in batches]), expected)
    if patches:
        found = [b.patches for b in batches if b.patches is not None]
        np.testing.assert_array_equal(np.concatenate(found), expected_patches)


@pytest.mark.parametrize("images", [[], [Path("missing.png")]])
def test_no_readable_image_gives_one_batch_without_rows(
    images: list[Path], builtin_encoder: CLIPEncoder
) -> None:
    own, clip = MeanColour(), builtin_encoder
    for encoder, dim, n_patches in ((own, 3, 2), (clip, clip.dim, clip.n_patches)):
        (batch,) = iter_encoded_images(encoder, images, patches=True)
        assert batch.features.shape == (0, dim)
        assert batch.patches is not None
        assert batch.patches.shape == (0, n_patches, dim)
        assert len(batch.errors) == len(images)


def test_the_encoder_decides_what_it_can_read(tmp_path: Path, demo_pictures: list[Path]) -> None:
    class Picky(MeanColour):
        def encode_images(self, images: Sequence[Any], batch_size: int = 64) -> Any:
            if any(image == demo_pictures[1] for image in images):
                raise ImageError("too blue")
            known = [demo_pictures[0] if image == odd else image for image in images]
            return super().encode_images(known, batch_size)

    odd = tmp_path / "own.format"
    odd.write_bytes(b"only this encoder reads it")
    (batch,) = iter_encoded_images(Picky(), [odd, *demo_pictures[:2]])
    assert [str(error) for error in batch.errors] == ["None", "None", "too blue"]
    np.testing.assert_array_equal(batch.features[0], batch.features[1])


@pytest.mark.parametrize("limit", [0, 2])
def test_other_faults_of_an_encoder_are_raised(limit: int, demo_pictures: list[Path]) -> None:
    class Faulty(MeanColour):
        def encode_images(self, images: Sequence[Any], batch_size: int = 64) -> Any:
            if len(images) > limit:
                raise MemoryError(f"{len(images)} images")
            return super().encode_images(images, batch_size)

    with pytest.raises(MemoryError):
        list(iter_encoded_images(Faulty(), demo_pictures[:4]))


def test_images_are_read_as_they_are_needed(
    demo_pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("negrefine.encoders.batches._SLICE", 2)
    batches = iter_encoded_images(MeanColour(), [*demo_pictures[:2], "not a picture", 7])
    assert next(batches).features.shape == (2, 3)


def test_the_batch_size_does_not_change_blocks(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path]
) -> None:
    detector = MCM(builtin_encoder).fit(["cat", "dog", "bird"])
    expected = detector.score_features(builtin_encoder.encode_images(demo_pictures))
    for batch_size in (1, 3, 64):
        scores = detector.score_samples(demo_pictures, batch_size=batch_size)
        np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_an_unreadable_image_raises(builtin_encoder: CLIPEncoder, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"broken\.png"):
        list(encode_batches(builtin_encoder, [broken], 2, patches=False))


def test_one_image_instead_of_a_list(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path]
) -> None:
    detector = MCM(builtin_encoder).fit(["cat", "dog"])
    with pytest.raises(InputError, match="list"):
        detector.score_samples(str(demo_pictures[0]))
    with pytest.raises(InputError, match="list"):
        MCM(OwnEncoder(builtin_encoder)).fit(["cat", "dog"]).score_samples(str(demo_pictures[0]))


def test_compiled_images_keep_their_features(demo_pictures: list[Path]) -> None:
    plain = load_encoder("builtin", device="cpu")
    compiled = load_encoder("builtin", device="cpu", compile_images=True)
    assert compiled.fingerprint == plain.fingerprint
    # The name alone compiles nothing: that happens at the first batch, and needs a compiler.
    np.testing.assert_array_equal(compiled.encode_texts(["a cat"]), plain.encode_texts(["a cat"]))
