"""Images in batches of any size give blocks of one size, from any encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from negrefine import MCM, load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.encoders.batches import encode_batches, equal_blocks
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
    monkeypatch.setattr("negrefine.encoders.batches._IMAGES", 5)
    own = OwnEncoder(builtin_encoder)
    names = ["cat", "dog", "bird"]
    expected = MCM(builtin_encoder).fit(names).score_samples(demo_pictures)
    scores = MCM(own).fit(names).score_samples(demo_pictures)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert own.most == 5
    assert MCM(own).fit(names).score_samples([]).shape == (0,)


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
        MCM(OwnEncoder(builtin_encoder)).fit(["cat"]).score_samples(str(demo_pictures[0]))


def test_compiled_images_keep_their_features(demo_pictures: list[Path]) -> None:
    plain = load_encoder("builtin", device="cpu")
    compiled = load_encoder("builtin", device="cpu", compile_images=True)
    assert compiled.fingerprint == plain.fingerprint
    # The name alone compiles nothing: that happens at the first batch, and needs a compiler.
    np.testing.assert_array_equal(compiled.encode_texts(["a cat"]), plain.encode_texts(["a cat"]))
