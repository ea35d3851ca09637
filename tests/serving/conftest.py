"""Saved detectors, a server of them, and one with narrow limits."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")

from conftest import CLASS_NAMES, LetterJudge
from negrefine import CSP, GLMCM, Detector, Lexicon, NegRefine, load_encoder
from negrefine.benchmarks.bundled import demo_images
from negrefine.encoders import CLIPEncoder
from serving.processes import Server, Zygote

TOKEN = "s3cret-of-the-tests"  # noqa: S105


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    if not hasattr(os, "fork"):
        pytest.skip("servers are forked")
    zygote = Zygote(tmp_path_factory.mktemp("servers"))
    yield zygote
    zygote.close()


@pytest.fixture(scope="session")
def pictures() -> list[tuple[str, bytes]]:
    """Names and bytes of two dozen pictures."""
    return [(image.path.name, image.path.read_bytes()) for image in demo_images()][::5][:24]


@pytest.fixture(scope="session")
def hosted(
    builtin_encoder: CLIPEncoder,
    small_lexicon: Lexicon,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, Detector]]:
    """Detectors as they are saved in a folder, by name."""
    mining = {"lexicon": small_lexicon, "lexicon_files": "full", "top_fraction": 0.8, "n_groups": 4}
    detectors: dict[str, Detector] = {
        "refined": NegRefine(builtin_encoder, judge=LetterJudge(), n_candidates=3, **mining),
        "csp": CSP(load_encoder("builtin", device="cpu", resample="bilinear"), **mining),
        "local": GLMCM(builtin_encoder),
    }
    root = tmp_path_factory.mktemp("hidden-place")
    for name, detector in detectors.items():
        detector.fit(CLASS_NAMES)
        if name != "local":
            by = "class" if name == "csp" else None
            detector.calibrate([image.path for image in demo_images()][2::5], fpr=0.2, by=by)
        detector.save(root / name)
    return root, detectors


def served(zygote: Zygote, root: Path, *options: object, **environment: str) -> Iterator[Server]:
    """Yield a server, which ends with the exit code 0 on SIGTERM."""
    names = ("refined", "csp", "local")
    server = zygote.start(*(f"{name}={root / name}" for name in names), *options, **environment)
    server.hidden = [str(root), root.name]
    server.wait_until_ready()
    yield server
    server.signal(signal.SIGTERM)
    assert server.wait() == 0, server.err.read_text()


@pytest.fixture(scope="session")
def server(zygote: Zygote, hosted: tuple[Path, dict[str, Detector]]) -> Iterator[Server]:
    """A server with the usual limits, except that it waits longer for a batch."""
    yield from served(zygote, hosted[0], "--batch-wait", "20", NEGREFINE_TOKEN="")


@pytest.fixture(scope="session")
def narrow(zygote: Zygote, hosted: tuple[Path, dict[str, Detector]]) -> Iterator[Server]:
    """A server with a token and narrow limits, which encodes no less than three images soon."""
    options = {
        "--max-bytes": 200_000,
        "--max-images": 3,
        "--max-pixels": 1_000_000,
        "--queue": 4,
        "--deadline": 2,
        "--batch-wait": 1500,
        "--batch-size": 3,
    }
    flat = [each for pair in options.items() for each in pair]
    for server in served(zygote, hosted[0], *flat, NEGREFINE_TOKEN=TOKEN):
        server.headers = {"Authorization": f"Bearer {TOKEN}"}
        yield server
