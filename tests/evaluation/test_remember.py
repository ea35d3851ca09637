"""An encoder that encodes no text twice."""

from __future__ import annotations

from typing import Any

import numpy as np

from negrefine.evaluation.sweep import RememberedTexts


def test_remembered_texts_are_encoded_once(tiny_encoder: Any) -> None:
    asked: list[str] = []

    class Counting(RememberedTexts):
        def encode_texts(self, texts: Any, batch_size: int = 1024) -> Any:
            asked.extend(texts)
            return super().encode_texts(texts, batch_size)

    memory = RememberedTexts(Counting(tiny_encoder))
    first = memory.encode_texts(["a", "b", "a"])
    second = memory.encode_texts(["b", "c"])
    assert asked == ["a", "b", "c"]
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(first[1], second[0])
    assert memory.encode_texts([]).shape == (0, 64)
