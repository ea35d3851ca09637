"""A slice of `benchmarks/fuzz/detectors.py`: tampered detectors are refused, or score as before."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz" / "detectors.py"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_tampered_detectors() -> None:
    spec = importlib.util.spec_from_file_location("fuzz_detectors", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    counts, faults = script.run(40, seed=1)
    assert faults == []
    assert sum(counts.values()) == 40
    assert counts["accident: refused"] >= 10
    assert counts["sealed: refused"] >= 10
