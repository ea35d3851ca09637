"""What one core of a fleet does and needs: the figures from which docs/fleet.md plans.

    python benchmarks/fleet.py IMAGES... --detector DIR [--repeat 3]

Prints JSON. Times are seconds of processor time of one thread, user and system, so that other
programs on the machine matter little; the threads that read images count, too. A process of its own
loads the detector and scores:

- start: from nothing to a loaded detector, with its imports, and the memory it then has;
- per_image, pairs known: a second pass over the images, where every pair is in memory;
- per_image, cold: the first pass with an empty cache on disk and without kept pairs;
- disk: the first pass of another process, whose pairs are all on disk;
- bytes_per_row: of a part, by the number of its rows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RUN = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from fleet import score_once
print(json.dumps(score_once(*sys.argv[2:])))
"""


def used() -> float:
    """Return the processor time of this process and its threads, seconds."""
    return time.process_time()


def score_once(detector: str, out: str, *images: str) -> dict[str, Any]:
    """Score images twice in a fresh process, and return times and memory."""
    import torch

    torch.set_num_threads(1)
    from negrefine import load_detector
    from negrefine.evaluation.score_parts import ScoredBy, ScoreParts
    from negrefine.evaluation.source_scores import iter_scored
    from negrefine.sources.opening import open_sources

    loaded: Any = load_detector(detector, device="cpu")
    result: dict[str, Any] = {"start": used(), "start_mb": memory_mb()}
    shards = open_sources(list(images))
    parts = ScoreParts(Path(out), ScoredBy.of(loaded))
    for name in ("first", "second"):
        before, lookups, n = used(), loaded.pair_lookups, 0
        sizes = []
        with parts.opened(len(shards)):
            for number, shard in enumerate(shards):
                rows = list(iter_scored(loaded, [shard]))
                parts.write(number, shard.name, shard.identity(), rows)
                sizes.append((len(rows), parts.path(number).stat().st_size))
                n += len(rows)
            parts.write_manifest(len(shards), [])
        done = loaded.pair_lookups - lookups
        result[name] = {
            "per_image": (used() - before) / n,
            "encoded_per_image": done.encoded / n,
            "from_disk_per_image": done.from_disk / n,
        }
    result |= {"n": n, "peak_mb": memory_mb(), "part_bytes": sizes}
    return result


def memory_mb() -> float:
    """Return the largest resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("images", nargs="+")
    parser.add_argument("--detector", required=True)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args(argv)
    runs: dict[str, list[Any]] = {"cold": [], "disk": []}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(arguments.repeat):
            for name, results in runs.items():
                place = Path(folder) / str(i)
                code = [sys.executable, "-c", RUN, str(Path(__file__).parent)]
                done = subprocess.run(
                    [*code, arguments.detector, str(place / name), *arguments.images],
                    env={**os.environ, "NEGREFINE_CACHE": str(place / "cache")},
                    stdout=subprocess.PIPE,
                    check=True,
                )
                results.append(json.loads(done.stdout))
    print(json.dumps(runs, indent=2))


if __name__ == "__main__":
    main()
