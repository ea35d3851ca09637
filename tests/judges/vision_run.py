"""A process that starts runs of a vision judge, which a test kills.

Each line of its input is MODEL STORE OUT: a run of its own, forked here because importing takes
seconds. The number of the process, then its exit status, are written to standard output.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

# Before the runs are forked.
import openai  # noqa: F401
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: F401

from judges.vision_images import NAMES, pictures
from negrefine import HFVision, OpenAIVision
from negrefine.judges import vision_model  # noqa: F401


def run(model: str, store: str, out: str) -> None:
    """Ask about all pictures, one after the other, and write the margins and the usage."""
    judge: HFVision | OpenAIVision
    if model.startswith("http"):
        judge = OpenAIVision(
            "m", model, store=store, first_pause=0.002, longest_pause=0.05, concurrency=2
        )
    else:
        judge = HFVision(model, device="cpu", store=store, least_mass=0, batch_size=1)
    images = pictures()
    margins = judge.yes_margins(images, [NAMES] * len(images))
    np.save(out, margins)
    Path(f"{out}.json").write_text(json.dumps([judge.usage.asked, judge.usage.cached]))


def main() -> None:
    """Fork a run for each line."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            run(*line.split())
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
