"""Rebuild the encoder of photographs: `python build.py STEP --work DIR`, one step or `all`."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

STEPS = (
    "photo_sources",
    "photo_teacher",
    "vocabulary",
    "text_side",
    "image_side",
    "joined",
    "measure",
)


def main() -> None:
    """Run one step or all steps."""
    # Downloading, Muon, the sentence encoder and the training of tokenizers are shared.
    sys.path.append(str(Path(__file__).resolve().parents[1] / "builtin_encoder"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("all", *STEPS))
    parser.add_argument("--work", type=Path, required=True, help="folder for everything, 3 GB")
    arguments = parser.parse_args()
    for step in STEPS if arguments.step == "all" else (arguments.step,):
        begin, spent = time.monotonic(), time.process_time()
        importlib.import_module(step).main(arguments.work)
        minutes = (time.monotonic() - begin) / 60
        print(
            f"{step}: {minutes:.1f} min, CPU {(time.process_time() - spent) / 60:.1f}", flush=True
        )


if __name__ == "__main__":
    main()
