"""Files in memory that wait to be decoded are bounded by bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from negrefine import load_encoder
from negrefine.encoders import undecoded
from negrefine.encoders.image_sources import ImageSource


def test_no_more_files_are_taken_than_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undecoded, "MOST_BYTES", 250)
    taken: list[int] = []

    def files() -> Iterator[ImageSource]:
        for i in range(9):
            taken.append(i)
            yield bytes(100)

    decoded = threading.Semaphore(0)
    waiting = undecoded.UndecodedBytes()
    with ThreadPoolExecutor(2) as pool:

        def consume() -> None:
            for each in waiting.with_room(files()):
                waiting.counted(each, pool.submit(decoded.acquire))

        consumer = threading.Thread(target=consume)
        consumer.start()
        consumer.join(0.2)
        assert taken == [0, 1, 2]
        decoded.release()
        consumer.join(0.2)
        assert taken == [0, 1, 2, 3]
        decoded.release(8)
        consumer.join(10)
    assert taken == list(range(9))


def test_an_encoder_with_little_room_gives_the_same_features(
    monkeypatch: pytest.MonkeyPatch,
    demo_pictures: list[Path],
) -> None:
    encoder = load_encoder("builtin")
    files = [path.read_bytes() for path in demo_pictures[:7]]
    expected = encoder.encode_images(files, batch_size=3)
    monkeypatch.setattr(undecoded, "MOST_BYTES", 0)
    assert (encoder.encode_images(iter(files), batch_size=3) == expected).all()
