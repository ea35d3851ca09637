"""Rebuild the built-in encoder: `python build.py STEP --work DIR`, STEP by STEP or `all`."""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

STEPS = (
    "fetch",
    "render",
    "teacher",
    "tokenizer",
    "text_tower",
    "vision_tower",
    "export",
    "evaluate",
)


def main() -> None:
    """Run one step, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("all", *STEPS))
    parser.add_argument("--work", type=Path, required=True, help="folder for everything, 3 GB")
    arguments = parser.parse_args()
    for step in STEPS if arguments.step == "all" else (arguments.step,):
        begin = time.monotonic()
        importlib.import_module(step).main(arguments.work)
        print(f"{step}: {(time.monotonic() - begin) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
