"""The files that the tests of the commands work on."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


def png_header(width: int, height: int) -> bytes:
    """A 1-bit PNG that says width x height and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def make_broken_images(folder: Path) -> dict[str, str]:
    """Return {file name: word in the error}."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    (folder / "truncated.jpg").write_bytes(buffer.getvalue()[:1500])
    (folder / "text.png").write_text("this is no picture\n" * 30)
    (folder / "empty.png").write_bytes(b"")
    (folder / "huge.png").write_bytes(png_header(30_000, 30_000))
    Image.new("L", (1, 50_000)).save(folder / "thread.png")
    return {
        "truncated.jpg": "cut short",
        "text.png": "not an image",
        "empty.png": "empty",
        "huge.png": "limit",
        "thread.png": "elongated",
    }


@dataclass(frozen=True)
class Workspace:
    """A folder as a user has it."""

    root: Path
    classes: Path
    lexicon: Path
    pictures: Path
    good: list[str]
    broken: dict[str, str]
    detector: Path
    plain: Path
