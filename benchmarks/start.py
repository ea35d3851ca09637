"""How much CPU time commands take to start, beside `import torch`, in the same minutes.

    python benchmarks/start.py [--repeat 3] [--against OTHER_CHECKOUT/src]

User and system time of whole processes; the smallest of several runs, taken in turns, so that a
busy machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
PICTURE = SOURCE / "negrefine" / "demo" / "images" / "animals" / "cat.png"


def cpu_seconds(arguments: list[str], source: Path) -> float:
    """Run Python with a checkout's package; return user and system time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--against", type=Path, help="src of another checkout")
    options = parser.parse_args()
    sources = [SOURCE, *([options.against] if options.against else [])]
    with tempfile.TemporaryDirectory() as folder:
        classes, detector = Path(folder) / "classes.txt", str(Path(folder) / "detector")
        classes.write_text("tomato\nbanana\ngrapes\n")
        command = ["-m", "negrefine"]
        fit = ["fit", "--classes", str(classes), "--encoder", "builtin", "--min-frequency", "1"]
        subprocess.run([sys.executable, *command, *fit, "--out", detector], check=True)
        cases = {
            "import torch": ["-c", "import torch"],
            "import negrefine": ["-c", "import negrefine"],
            "--help": [*command, "--help"],
            "fit --help": [*command, "fit", "--help"],
            "explain --help": [*command, "explain", "--help"],
            "calibrate --help": [*command, "calibrate", "--help"],
            "fit --nothing": [*command, "fit", "--nothing"],
            "score, missing image": [*command, "score", detector, "missing.png"],
            "score, one image": [*command, "score", detector, str(PICTURE)],
        }
        best: dict[tuple[str, Path], float] = {}
        for _ in range(options.repeat):
            for name, arguments in cases.items():
                for source in sources:
                    seconds = cpu_seconds(arguments, source)
                    best[name, source] = min(seconds, best.get((name, source), seconds))
    for name in cases:
        cells = [
            f"{best[name, source]:6.2f} s {best[name, source] / best['import torch', source]:5.2f}"
            for source in sources
        ]
        print(f"{name:22}", *cells)


if __name__ == "__main__":
    main()
