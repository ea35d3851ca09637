"""A slice of the fuzz of `benchmarks/fuzz/images.py`: mutated images are read or refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz" / "images.py"


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is in other units elsewhere")
def test_mutated_images_are_read_or_refused() -> None:
    command = [sys.executable, str(SCRIPT), "--images", "200"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 crashes" in done.stdout
    assert done.stdout.startswith("200 images")
