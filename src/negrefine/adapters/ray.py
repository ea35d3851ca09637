"""Ray Data: a detector on many machines, and a source of images scored shard by shard."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from negrefine.adapters.batch_scorer import Scorer
from negrefine.detectors import NegRefine, load_detector
from negrefine.detectors.hub import pinned
from negrefine.detectors.pair_embeddings import PairLookups
from negrefine.errors import InputError, NegrefineError
from negrefine.evaluation.score_parts import PartSummary, ScoredBy, ScoreParts
from negrefine.evaluation.source_scores import iter_scored
from negrefine.pretrained.hub_address import is_hub_address
from negrefine.progress import progress_bar
from negrefine.sources.base import Shard
from negrefine.sources.lists import StdinShard

__all__ = ["ScoredShards", "Scorer", "score_shards"]

# What goes through Ray are names and counts.
_OBJECT_STORE_BYTES = 200 << 20
# Seconds in which a cluster must answer.
_PATIENCE = 10


@dataclass(frozen=True)
class ScoredShards:
    """What `score_shards` did.

    Attributes:
        parts: What the part of each shard says of itself, in order.
        n_kept: Parts of earlier runs.
        n_replaced: Parts of earlier runs whose shard has changed, scored again.
        lookups: The pair embeddings that this run needed, and from where.
    """

    parts: tuple[PartSummary, ...]
    n_kept: int
    n_replaced: int
    lookups: PairLookups


def score_shards(
    detector: str | os.PathLike[str],
    shards: Sequence[Shard],
    out: str | os.PathLike[str],
    *,
    address: str = "local",
    encoder: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 64,
    progress: bool = False,
) -> ScoredShards:
    """Score shards on a Ray cluster, each as a Parquet file in a folder (`score_parts`).

    One actor for each GPU of the cluster, or without any for each core, loads the detector once. It
    writes the part of a shard itself, at once and as a whole, so an actor or a driver that dies
    loses and doubles nothing. Shards whose part is there, of this detector and of the shard as it
    is now, are not scored again.

    Args:
        detector: The directory of a saved detector, on a file system that all nodes share, as
            `out` and what shards name by path; or its address on the hub.
        shards: From `negrefine.sources.opening.open_sources`.
        out: The folder of the parts: new, empty, or one of an earlier run of this detector.
        address: "local" starts Ray on this machine for this run, unless this process has joined a
            cluster before; "auto" and "host:port" join one.
        encoder: As for `load_detector`, like `device` and `dtype`.
        batch_size: Images to encode at a time.
        progress: Draw a progress bar.

    Raises:
        InputError: Ray is not installed or cannot be reached, no shard is given or one is standard
            input, `out` holds something else, or workers died again and again during one shard.
        BundleError: There is no detector, or one that cannot be read.
    """
    if not shards:
        raise InputError("There is no shard to score: name a source of images.")
    if any(isinstance(shard, StdinShard) for shard in shards):
        raise InputError(
            "Standard input cannot be read by several machines: write the list into a file and "
            "give '@list.txt'."
        )
    ray = _import_ray()
    # Each worker downloads a detector from the hub itself, the same commit.
    root = pinned(detector) if is_hub_address(detector) else Path(detector).absolute()
    parts = ScoreParts(
        Path(out).absolute(), ScoredBy.of(load_detector(root, encoder, device="cpu"))
    )
    settings = {"encoder": encoder, "device": device, "dtype": dtype, "batch_size": batch_size}
    with parts.opened(len(shards)):
        found = [parts.finished(number) for number in range(len(shards))]
        done = {
            number: part
            for number, (shard, part) in enumerate(zip(shards, found, strict=True))
            if part is not None and _is_of(part, shard)
        }
        n_kept, n_present = len(done), sum(part is not None for part in found)
        items = [
            {"number": number, "shard": shard}
            for number, shard in enumerate(shards)
            if number not in done
        ]
        parts.write_manifest(len(shards), list(done.values()))
        lookups = PairLookups()
        with progress_bar("Scoring shards", len(shards), enabled=progress) as advance:
            advance(n_kept)
            for row in _run(ray, items, root, parts, settings, address) if items else ():
                done[row["number"]] = PartSummary(**row["part"])
                lookups += PairLookups(**row["lookups"])
                for message in row["warnings"]:
                    warnings.warn(message, stacklevel=2)
                parts.write_manifest(len(shards), list(done.values()))
                advance()
    ordered = tuple(done[number] for number in range(len(shards)))
    return ScoredShards(ordered, n_kept, n_present - n_kept, lookups)


def _is_of(part: PartSummary, shard: Shard) -> bool:
    """Whether a part is of the shard as it is now; where nothing tells, it is not."""
    if part.shard != shard.name or not part.identity:
        return False
    return part.identity == shard.identity()


class ShardScorer:
    """The actor: scores shards, and writes their parts."""

    def __init__(self, folder: str, detector: str, parts: ScoreParts, settings: Any) -> None:
        # Relative paths of images are those of the driver.
        try:
            os.chdir(folder)
        except OSError as error:
            raise InputError(
                f"The folder {folder!r} is not on the machine of this worker ({error.strerror}): "
                "run the command in one that all machines share."
            ) from error
        self._parts = parts
        options = dict(settings)
        self._batch_size: int = options.pop("batch_size")
        scorer = Scorer(detector, threads=1, identity=parts.by.detector, **options)
        self._detector = scorer.detector

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Score the shard in `row` and return what its part says of itself."""
        number, shard = row["number"], row["shard"]
        self._parts.begin(number, shard.name)
        before = self._lookups()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # What changes while it is read must not pass for what was read.
            identity = shard.identity()
            scored = list(iter_scored(self._detector, [shard], batch_size=self._batch_size))
        part = self._parts.write(number, shard.name, identity, scored)
        return {
            "number": number,
            "part": asdict(part),
            "lookups": asdict(self._lookups() - before),
            "warnings": [str(each.message) for each in caught],
        }

    def _lookups(self) -> PairLookups:
        detector = self._detector
        return detector.pair_lookups if isinstance(detector, NegRefine) else PairLookups()


def _run(
    ray: Any,
    items: list[dict[str, Any]],
    detector: Path | str,
    parts: ScoreParts,
    settings: dict[str, Any],
    address: str,
) -> Iterator[dict[str, Any]]:
    """Yield what `ShardScorer` returns for each item, as it comes."""
    with _cluster(ray, address):
        resources = ray.cluster_resources()
        kind = "GPU" if resources.get("GPU") and settings["device"] != "cpu" else "CPU"
        size = max(1, min(int(resources.get(kind, 1)), len(items)))
        context = ray.data.DataContext.get_current()
        shown, context.enable_progress_bars = context.enable_progress_bars, False
        # A data set keeps the settings with which it was made.
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
            ShardScorer,
            fn_constructor_args=(os.getcwd(), str(detector), parts, settings),  # noqa: PTH109
            compute=ray.data.ActorPoolStrategy(size=size),
            **{"num_gpus" if kind == "GPU" else "num_cpus": 1},
        )
        context.enable_progress_bars = shown
        try:
            yield from dataset.iter_rows()
        except ray.exceptions.RayError as error:
            raise _plain(error) from error


@contextmanager
def _cluster(ray: Any, address: str) -> Iterator[None]:
    """Join or start a cluster, and leave or stop it, unless this process is in one already."""
    if ray.is_initialized():
        yield
        return
    # Nothing is reported to Ray's makers, and of its own log only what ends it is shown.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    local: dict[str, Any] = {}
    if address == "local":
        # Workers of Ray yield to all other programs (nice 15). These are the command itself, and
        # on a busy machine they would hardly start.
        os.environ.setdefault("RAY_worker_niceness", "0")
        local = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        _check_answers(address)
        with _no_stderr():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    # Ray raises plain exceptions, too.
    except Exception as error:
        if address == "local":
            raise InputError(
                f"Ray could not be started on this machine ({_first_line(error)}): try again when "
                "it has less to do, or score without it."
            ) from error
        raise InputError(
            f"There is no Ray cluster at {address!r} ({_first_line(error)}): start one with 'ray "
            "start', or give 'local'."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise OSError if nothing answers at "host:port", which Ray would wait for without an end."""
    host, colon, port = address.rpartition(":")
    if colon and "/" not in address:
        with closing(socket.create_connection((host.strip("[]"), int(port)), _PATIENCE)):
            pass


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Hide what Ray's core writes past Python: that its log level was set. Errors are raised."""
    try:
        kept = os.dup(2)
    except OSError:
        # There is none.
        yield
        return
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _plain(error: Any) -> Exception:
    """Return the error of our own behind one of Ray, or a sentence about it."""
    cause = error
    while cause is not None:
        if isinstance(cause, NegrefineError):
            return InputError(str(cause.args[0]))
        cause = getattr(cause, "cause", None) or cause.__cause__
    return InputError(
        f"Ray gave up: {_first_line(error)}. The parts that are done are kept, and the same "
        "command continues; a worker that dies again and again may need more memory."
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")[:300]


def _import_ray() -> Any:
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise InputError("Scoring on a cluster needs Ray: pip install 'negrefine[ray]'.") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray
