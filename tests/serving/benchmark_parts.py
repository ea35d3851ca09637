"""Makes what the scripts of benchmarks/ share importable."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from http_load.client import Client, Reply, open_loop, watched
from http_load.pictures import Scored, demo_pictures

__all__ = ["Client", "Reply", "Scored", "demo_pictures", "open_loop", "watched"]
