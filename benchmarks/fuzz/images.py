"""Mutate valid images of all formats that Pillow writes, and read each: a result or an ImageError.

    python benchmarks/fuzz/images.py [--images 10000] [--seed 0]

Exit code 1 if anything else was raised, or an image took more than 1 GB (Linux only). The bytes of
a case follow from the seed and its number alone.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
from PIL import Image

from negrefine.encoders.images import read_image
from negrefine.errors import ImageError

_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F")
# Their encoders start other programs, or write films and documents.
_LEFT_OUT = {"EPS", "PDF", "PALM", "XBM", "BUFR", "GRIB", "HDF5", "WMF", "MPEG"}
_SIZES = (0, 1, 255, 65535, 2**31 - 1, 2**32 - 1, 13_300)
_LIMIT_KB = 10**6


def seeds() -> list[tuple[str, bytes]]:
    """Return one small valid file for each format and mode that Pillow writes."""
    Image.init()
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (24, 31, 4), dtype=np.uint8))
    files = []
    for kind in sorted(set(Image.SAVE) - _LEFT_OUT):
        for mode in _MODES:
            grey = noise.convert("L")
            image = Image.fromarray(np.asarray(grey).astype(np.uint16)) if mode == "I;16" else None
            image = image or (noise if mode == "RGBA" else noise.convert("RGB").convert(mode))
            stream = io.BytesIO()
            try:
                image.save(stream, kind)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
            files.append((f"{kind} {mode}", stream.getvalue()))
    return files


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the file with flipped bits, another length, or other numbers in its header."""
    content = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if not content:
            break
        kind = rng.integers(5)
        place = int(rng.integers(len(content)))
        header = int(rng.integers(min(len(content), 128)))
        if kind == 0:
            content[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del content[place:]
        elif kind == 2:
            order = ("big", "little")[int(rng.integers(2))]
            size = int(rng.choice(_SIZES))
            width = 4 if size > 65535 else int(rng.choice((2, 4)))
            content[header : header + width] = size.to_bytes(width, order)  # type: ignore[arg-type]
        elif kind == 3:
            content[header] = int(rng.integers(256))
        else:
            content[place:place] = content[: int(rng.integers(64))]
    return bytes(content)


def run(n: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """Yield number, format and outcome ("read", "refused" or the exception) of n images."""
    files = seeds()
    for number in range(n):
        rng = np.random.default_rng([seed, number])
        name, data = files[number % len(files)]
        try:
            read_image(mutated(data, rng))
            outcome = "read"
        except ImageError:
            outcome = "refused"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        yield number, name, outcome


def main() -> int:
    """Return 0 if all images were read or refused within the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    for number, name, outcome in run(arguments.images, arguments.seed):
        outcomes[outcome] += 1
        if outcome not in {"read", "refused"}:
            print(f"{number} ({name}): {outcome}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    crashes = outcomes.total() - outcomes["read"] - outcomes["refused"]
    print(
        f"{outcomes.total():,} images: {outcomes['read']:,} read, {outcomes['refused']:,} refused,"
        f" {crashes} crashes, peak memory +{peak / 1000:.0f} MB"
    )
    return int(crashes > 0 or peak > _LIMIT_KB)


if __name__ == "__main__":
    sys.exit(main())
