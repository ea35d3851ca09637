"""Tampered detectors: each is refused in a sentence, or scores as before.

    python benchmarks/fuzz/detectors.py --count 500 --seed 0

Half of them are damaged as disks, copies and editors do: flipped bits, cut, exchanged, missing and
added files, edited JSON. None of these may load with other content. The other half are sealed again
with right checksums, as only another program or an attacker does: these may be another detector,
but must not end in a traceback, hang, or give scores that are NaN. Exit code 1 if one does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

import negrefine
from negrefine import CSP, MCM, Detector, Lexicon, NegRefine, load_detector
from negrefine.encoders import CLIPEncoder
from negrefine.errors import NegrefineError

SECONDS = 60
NONSENSE: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e-300, 1e300, 10**18, 10**30, 10**299, 2**63),
    *(float("nan"), float("inf"), float("-inf"), "", "x", "\0", "\ud800", "a" * 100_000, "../x"),
    *([], [[]], [None], ["x"], [1, 2], {}, {"unsaved": "x"}, {"class_name": ["{}"]}, {"": {}}),
    json.loads("[" * 100 + "]" * 100),
]


class Case:
    """A fresh copy of a saved detector, to be tampered with.

    Attributes:
        path: Its directory.
        rng: Decides what is done.
        other: The directory of another saved detector.
    """

    def __init__(self, path: Path, other: Path, rng: random.Random) -> None:
        self.path, self.other, self.rng = path, other, rng

    def any_file(self) -> Path:
        return self.rng.choice(sorted(self.path.iterdir()))

    @property
    def manifest(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.path / "detector.json").read_text("utf-8"))
        return content

    def write_manifest(self, manifest: dict[str, Any], *, sealed: bool) -> None:
        if sealed:
            manifest.pop("checksum", None)
            text = json.dumps(manifest, sort_keys=True).encode()
            manifest["checksum"] = hashlib.sha256(text).hexdigest()
        (self.path / "detector.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")

    def replace_data(self, name: str, edit: Callable[[bytes], bytes]) -> None:
        """Edit a data file and put its checksums right."""
        manifest = self.manifest
        stem, _, suffix = name.rpartition(".")
        data = edit((self.path / f"{stem}-{manifest['files'][name][:12]}.{suffix}").read_bytes())
        manifest["files"][name] = digest = hashlib.sha256(data).hexdigest()
        (self.path / f"{stem}-{digest[:12]}.{suffix}").write_bytes(data)
        self.write_manifest(manifest, sealed=True)


# ------------------------------------------------------------------------------------ accidents


def flip_bits(case: Case) -> None:
    file = case.any_file()
    data = bytearray(file.read_bytes())
    for _ in range(case.rng.choice((1, 1, 2, 8))):
        data[case.rng.randrange(len(data))] ^= 1 << case.rng.randrange(8)
    file.write_bytes(data)


def cut(case: Case) -> None:
    file = case.any_file()
    data = file.read_bytes()
    file.write_bytes(data[: case.rng.randrange(len(data))])


def append(case: Case) -> None:
    file = case.any_file()
    file.write_bytes(
        file.read_bytes() + case.rng.choice((b"\0", b"{}", b"\n{}\n", file.read_bytes()))
    )


def overwrite(case: Case) -> None:
    file = case.any_file()
    data = bytearray(file.read_bytes())
    start = case.rng.randrange(len(data))
    length = min(case.rng.choice((1, 16, 512, 4096)), len(data) - start)
    data[start : start + length] = case.rng.choice((bytes(length), case.rng.randbytes(length)))
    file.write_bytes(data)


def remove(case: Case) -> None:
    case.any_file().unlink()


def exchange(case: Case) -> None:
    first, second = case.rng.sample(sorted(case.path.iterdir()), 2)
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


def take_from_another(case: Case) -> None:
    source = case.rng.choice(sorted(case.other.iterdir()))
    stem = source.name.partition("-")[0]
    (target,) = (
        case.path.glob(f"{stem}*") if list(case.path.glob(f"{stem}*")) else [case.any_file()]
    )
    shutil.copyfile(source, case.path / case.rng.choice((target.name, source.name)))


def add(case: Case) -> None:
    name = case.rng.choice(
        ("notes.txt", "features-0123456789ab.safetensors", "audit-0123456789ab.jsonl", "x.tmp")
    )
    (case.path / name).write_bytes(case.rng.randbytes(100))


def make_special(case: Case) -> None:
    file = case.any_file()
    file.unlink()
    case.rng.choice(
        (
            file.mkdir,
            lambda: os.mkfifo(file),
            lambda: file.symlink_to("/dev/zero"),
            lambda: file.symlink_to(file),
            lambda: os.truncate(file, 1 << 40) if file.write_bytes(b"{") else None,
        )
    )()


def edit_unsealed(case: Case) -> None:
    manifest = case.manifest
    _edit(manifest, case.rng)
    case.write_manifest(manifest, sealed=False)


# --------------------------------------------------------------------------------- sealed again


def edit_sealed(case: Case) -> None:
    manifest = case.manifest
    for _ in range(case.rng.choice((1, 1, 2))):
        _edit(manifest, case.rng)
    case.write_manifest(manifest, sealed=True)


def edit_parameter(case: Case) -> None:
    manifest = case.manifest
    name = case.rng.choice(sorted(manifest["parameters"]))
    manifest["parameters"][name] = case.rng.choice(NONSENSE)
    case.write_manifest(manifest, sealed=True)


def edit_array(case: Case) -> None:
    def edit(data: bytes) -> bytes:
        arrays = load(data)
        name = case.rng.choice(sorted(arrays))
        array = arrays[name]
        changes: list[Callable[[], Any]] = [
            lambda: array * array.dtype.type(case.rng.choice((np.nan, np.inf, 0, 7, -1))),
            lambda: array.astype(case.rng.choice((bool, "i1", "i8", "u2", "f2", "f4", "f8"))),
            lambda: array[: len(array) // 2],
            lambda: array[..., : array.shape[-1] // 2],
            lambda: array[::-1],
            lambda: np.concatenate([array, array]),
            array.ravel,
            lambda: array[None],
            lambda: np.zeros((0, *array.shape[1:]), array.dtype),
            lambda: np.roll(array, 1, axis=-1),
        ]
        with np.errstate(all="ignore"):
            arrays[name] = np.ascontiguousarray(case.rng.choice(changes)())
        if case.rng.random() < 0.1:
            del arrays[name]
        return save(arrays)

    case.replace_data("features.safetensors", edit)


def edit_rows(case: Case) -> None:
    tables = [name for name in sorted(case.manifest["files"]) if name.endswith(".jsonl")]
    if not tables:
        edit_sealed(case)
        return

    def edit(data: bytes) -> bytes:
        lines = data.splitlines()
        place = case.rng.randrange(len(lines) or 1)
        row = json.loads(lines[place]) if lines else {}
        _edit(row, case.rng)
        line = case.rng.choice(
            (*[json.dumps(row).encode()] * 4, b"hello", b"\xff", b"[" * 100_000, b"{}", b"null")
        )
        change = case.rng.random()
        if change < 0.1:
            case.rng.shuffle(lines)
        elif change < 0.2:
            del lines[place:]
        else:
            lines[place : place + 1] = [line]
        return b"".join(each + b"\n" for each in lines)

    case.replace_data(case.rng.choice(tables), edit)


def random_bytes(case: Case) -> None:
    name = case.rng.choice(sorted(case.manifest["files"]))

    def edit(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(case.rng.choice((1, 4, 64))):
            if changed:
                # The headers of safetensors and the first row.
                place = case.rng.randrange(min(len(changed), case.rng.choice((64, 1024, 10**9))))
                changed[place] = case.rng.randrange(256)
        return bytes(changed)

    case.replace_data(name, edit)


def _edit(content: Any, rng: random.Random) -> None:
    """Change, remove or add one value anywhere in JSON data."""
    while True:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(content[key], (dict, list)) and content[key] and rng.random() < 0.7:
            content = content[key]
            continue
        action = rng.random()
        if action < 0.15:
            del content[key]
        elif action < 0.25 and isinstance(content, dict):
            content[rng.choice(("other", "", "name"))] = rng.choice(NONSENSE)
        elif action < 0.4:
            content[key] = content[rng.choice(keys)]
        else:
            content[key] = rng.choice(NONSENSE)
        return


ACCIDENTS = (
    *(flip_bits, cut, append, overwrite, remove, exchange, take_from_another, add, make_special),
    *(edit_unsealed, edit_unsealed),
)
FORGERIES = (edit_sealed, edit_parameter, edit_array, edit_rows, random_bytes)


# ------------------------------------------------------------------------------------- outcomes


def originals(folder: Path, encoder: CLIPEncoder) -> list[Path]:
    """Save one detector of each kind and return their directories."""
    lexicon = Lexicon.wordnet(min_frequency=30)
    made: list[Detector] = [
        MCM(encoder),
        CSP(encoder, lexicon=lexicon, n_groups=5),
        NegRefine(encoder, lexicon=lexicon, n_groups=5, alpha=0.5),
    ]
    paths = []
    for detector in made:
        detector.fit(["dog", "cat", "oak tree", "teapot"])
        if detector.method != "csp":
            by = "class" if detector.method == "negrefine" else None
            detector.calibrate_features(features(encoder), 0.2, by=by)
        paths.append(folder / detector.method)
        detector.save(paths[-1])
    return paths


def features(encoder: CLIPEncoder) -> Any:
    """Return the features of bundled pictures."""
    root = Path(negrefine.__file__).parent / "demo" / "images"
    return encoder.encode_images(sorted(root.rglob("*.png"))[:6])


def content_of(path: Path, encoder: CLIPEncoder, images: Any) -> tuple[Any, ...]:
    """Load a detector and return everything that somebody could see of it."""
    detector = load_detector(path, encoder)
    scores = detector.score_features(images)
    if not np.isfinite(scores).all():
        raise FloatingPointError(f"the scores are {scores}")
    explained = [repr(each) for each in detector.explain_features(images[:1], unfiltered=True)]
    seen = [detector.identity(), scores.tobytes(), detector.offset_, *explained]
    if detector.offset_ is not None:
        seen.append(detector.predict_features(images).tobytes())
    if detector.calibration_scores_ is not None:
        seen.append(detector.p_values_features(images).tobytes())
    return tuple(seen)


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(case: Case, *, sealed: bool, before: Any, encoder: CLIPEncoder, images: Any) -> str:
    """Return "refused", "same" or "other detector", or the fault in capitals."""
    try:
        with time_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            after = content_of(case.path, encoder, images)
    except NegrefineError as error:
        return "refused" if "\n" not in str(error) else f"LINE BREAK in {error!r}"
    except Exception:
        return f"TRACEBACK {traceback.format_exc(limit=-3)}"
    if after == before:
        return "same"
    return "other detector" if sealed else "SILENT CHANGE"


def run(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Tamper with `count` detectors; return how many had which outcome, and the faults."""
    encoder = negrefine.load_encoder("builtin", device="cpu", cache=False)
    images = features(encoder)
    counts: Counter[str] = Counter()
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            paths = originals(Path(folder), encoder)
        seen = {path: content_of(path, encoder, images) for path in paths}
        for number in range(count):
            rng = random.Random(f"{seed} {number}")  # noqa: S311
            path, other = rng.sample(paths, 2)
            copy = Path(folder) / "tampered"
            shutil.copytree(path, copy)
            sealed = number % 2 == 1
            tamper = rng.choice(FORGERIES if sealed else ACCIDENTS)
            case = Case(copy, other, rng)
            tamper(case)
            kind = "sealed" if sealed else "accident"
            found = outcome(case, sealed=sealed, before=seen[path], encoder=encoder, images=images)
            counts[f"{kind}: {found.partition(' ')[0] if found[0].isupper() else found}"] += 1
            if found[0].isupper():
                faults.append(f"{number} ({tamper.__name__} of {path.name}): {found}")
            shutil.rmtree(copy)
    return counts, faults


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts, faults = run(options.count, options.seed)
    for found, n in sorted(counts.items()):
        print(f"{n:6} {found}")
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
