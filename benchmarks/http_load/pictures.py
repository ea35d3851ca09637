"""Pictures of the demo in any size, and the scores that they must get."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from http_load.client import Reply, form_of, post_of

TOLERANCE = 1e-6


def demo_pictures(count: int, size: int, kind: str = "JPEG") -> list[bytes]:
    """Return files of `count` pictures from all sets of the demo, size x size pixels."""
    from negrefine.benchmarks.bundled import demo_images

    images = demo_images()
    files = []
    for i in range(count):
        picture = Image.open(images[i * len(images) // count].path).convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        stream = io.BytesIO()
        flat = Image.alpha_composite(ground, picture).convert("RGB").resize((size, size))
        flat.save(stream, kind)
        files.append(stream.getvalue())
    return files


class Scored:
    """Requests of pictures, and whether answers have the scores that the library computes.

    Attributes:
        requests: Whole requests to /v1/score.
    """

    def __init__(self, detector: Path, files: Sequence[bytes], images_a_request: int = 1) -> None:
        from negrefine import load_detector

        self._scores = load_detector(detector, device="cpu").score_samples(list(files))
        self._n = images_a_request
        n_files = len(files)
        self._of = [
            [(first + i) % n_files for i in range(images_a_request)] for first in range(n_files)
        ]
        self.requests = [
            post_of("/v1/score", form_of([(f"{i}.image", files[i]) for i in group]))
            for group in self._of
        ]

    def wrong(self, replies: Sequence[Reply]) -> int:
        """Return how many answers of 200 have another name, order or score, or an error."""
        return sum(not self._is_right(reply) for reply in replies if reply.status == 200)

    def _is_right(self, reply: Reply) -> bool:
        rows, group = reply.json()["results"], self._of[reply.key]
        return len(rows) == len(group) and all(
            row["name"] == f"{i}.image"
            and row["error"] is None
            and abs(row["score"] - float(self._scores[i])) <= TOLERANCE
            for row, i in zip(rows, group, strict=True)
        )
