"""Detectors by name, loaded again when they are saved anew."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from negrefine.detectors import Detector, load_detector
from negrefine.detectors.bundle import MANIFEST, manifest_of, version_of
from negrefine.encoders.clip import CLIPEncoder
from negrefine.errors import BundleError, InputError, NegrefineError, is_out_of_memory
from negrefine.serving.batching import EncoderWorker, Observer
from negrefine.serving.description import describe
from negrefine.serving.settings import Settings
from negrefine.serving.watching import Watch

_Stamp: TypeAlias = "tuple[int, int, int] | None"
_Key: TypeAlias = "tuple[str, str]"
# Looks at a directory that could not be loaded are this many times as rare.
_PATIENCE = 10
_ATTEMPTS = 5


@dataclass(frozen=True, eq=False)
class Served:
    """One version of a detector, ready to score.

    Attributes:
        version: `version_of` its directory when it was loaded.
        worker: Of its encoder, which other detectors may share.
        description: What `GET /v1/detector` says.
        watch: Its monitor.
    """

    name: str
    version: str
    detector: Detector
    worker: EncoderWorker
    description: dict[str, Any]
    watch: Watch


@dataclass(eq=False)
class _Place:
    """A directory, and what was last seen there."""

    path: Path
    stamp: _Stamp = None
    failure: str | None = None
    skip: int = 0


@dataclass(frozen=True, kw_only=True)
class Events:
    """Called when something happens; they must not raise.

    Attributes:
        say: With a sentence for the log.
        loaded: With a detector that was loaded again and serves from now on.
        failed: With the name of one that could not be loaded again.
        replaced: With a detector that serves no new requests.
    """

    say: Callable[[str], None]
    loaded: Callable[[Served], None] = field(default=lambda _: None)
    failed: Callable[[str], None] = field(default=lambda _: None)
    replaced: Callable[[Served], None] = field(default=lambda _: None)


class Hosted:
    """The detectors of a server. Reads are for the event loop, loading is for one other thread."""

    def __init__(
        self,
        places: Mapping[str, str | os.PathLike[str]],
        settings: Settings,
        decoders: Executor,
        observer: Observer,
        events: Events,
        *,
        device: str = "auto",
        dtype: str = "auto",
        encoder: str | os.PathLike[str] | None = None,
        monitor_state: str | os.PathLike[str] | None = None,
    ) -> None:
        """Load the detectors; the first is the default.

        Raises BundleError or EncoderError for a detector that cannot be loaded, and InputError
        without any, or for a state of a monitor that is damaged.
        """
        if not places:
            raise InputError("There is no detector to serve: give the directory of one.")
        self._places = {name: _Place(Path(path)) for name, path in places.items()}
        self._settings = settings
        self._decoders = decoders
        self._observer = observer
        self._events = events
        self._hardware = {"device": device, "dtype": dtype}
        self._encoder = encoder
        self._monitor_state = monitor_state
        self._lock = threading.Lock()
        self._workers: dict[_Key, EncoderWorker] = {}
        self._served: dict[str, Served] = {}
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="reloads", daemon=True)
        for name, place in self._places.items():
            place.stamp = _stamp(place.path)
            self._serve(self._load(name, place.path))

    def start(self) -> None:
        """Begin to look for detectors that were saved anew."""
        self._watcher.start()

    def close(self, seconds: float = 2.0) -> bool:
        """End the threads; return whether all have ended in time."""
        self._stop.set()
        for worker in self._workers.values():
            worker.retire()
        if self._watcher.is_alive():
            self._watcher.join(seconds)
        ended = [worker.join(seconds) for worker in self._workers.values()]
        return all(ended) and not self._watcher.is_alive()

    @property
    def names(self) -> list[str]:
        """Names of the detectors, the default one first."""
        return list(self._places)

    @property
    def waiting(self) -> int:
        """Images that wait for an encoder."""
        return sum(worker.waiting for worker in list(self._workers.values()))

    @property
    def n_encoders(self) -> int:
        """Number of encoders in memory."""
        return len(self._workers)

    def failures(self) -> list[str]:
        """Return the names of detectors whose directory holds what cannot be loaded."""
        return [name for name, place in self._places.items() if place.failure is not None]

    def now(self) -> list[Served]:
        """Return the detectors as they serve now."""
        with self._lock:
            return list(self._served.values())

    @contextmanager
    def use(self, name: str | None) -> Iterator[Served | None]:
        """Yield the detector of this name, or the default; it works until the block ends."""
        with self._lock:
            served = self._served.get(self.names[0] if name is None else name)
            if served is not None:
                served.worker.lease()
        try:
            yield served
        finally:
            if served is not None:
                served.worker.release()

    def _watch(self) -> None:
        while not self._stop.wait(self._settings.poll):
            for name, place in self._places.items():
                self._look(name, place)

    def _look(self, name: str, place: _Place) -> None:
        stamp = _stamp(place.path)
        if stamp == place.stamp and place.failure is None:
            return
        if stamp == place.stamp and place.skip > 0:
            place.skip -= 1
            return
        place.stamp, place.skip = stamp, _PATIENCE
        try:
            if version_of(place.path) == self._served[name].version:
                place.failure = None
                self._events.loaded(self._served[name])
                return
            served = self._load(name, place.path)
        except Exception as error:
            self._keep(name, place, error)
            return
        place.failure = None
        earlier = self._served[name]
        self._serve(served)
        self._events.replaced(earlier)
        self._events.loaded(served)
        self._events.say(f"The detector {name!r} was loaded again ({served.version[:12]}).")

    def _keep(self, name: str, place: _Place, error: Exception) -> None:
        """Report a detector that cannot be loaded, once for each reason."""
        expected = isinstance(error, NegrefineError) or is_out_of_memory(error)
        sentence = str(error) if expected else f"{type(error).__name__}: {error}"
        if place.failure != sentence:
            place.failure = sentence
            self._events.failed(name)
            self._events.say(
                f"The detector {name!r} was replaced by one that cannot be loaded, and the "
                f"earlier one goes on serving: {sentence}"
            )

    def _serve(self, served: Served) -> None:
        """Let a detector take the place of the one before it."""
        with self._lock:
            self._served[served.name] = served
            used = {each.worker for each in self._served.values()}
            for key, worker in list(self._workers.items()):
                if worker not in used and len(self._served) == len(self._places):
                    worker.retire()
                    del self._workers[key]

    def _load(self, name: str, path: Path) -> Served:
        """Return what a directory holds, one version as a whole."""
        for _ in range(_ATTEMPTS):
            version = version_of(path)
            saved = manifest_of(path).get("encoder") or {}
            key = (str(saved.get("fingerprint")), json.dumps(saved.get("options"), sort_keys=True))
            known = self._workers.get(key)
            shared = self._encoder if known is None else known.encoder
            detector = load_detector(path, shared, **self._hardware)
            if version_of(path) != version:
                continue
            encoder = detector.encoder
            if not isinstance(encoder, CLIPEncoder):
                raise BundleError(f"The encoder of the detector {name!r} is no CLIP model.")
            if detector.image_parts:
                raise BundleError(
                    f"The detector {name!r} asks a vision model about images, which the server "
                    "does not: serve the detector that it was made from."
                )
            _try_out(detector, encoder)
            if known is None:
                arguments = (encoder, self._settings, self._decoders, self._observer)
                self._workers[key] = known = EncoderWorker(*arguments)
            watch = Watch(name, version, detector, self._monitor_state, self._events.say)
            description = describe(name, version, detector)
            return Served(name, version, detector, known, description, watch)
        raise BundleError(f"The detector {name!r} is saved again and again while it is loaded.")


def _try_out(detector: Detector, encoder: CLIPEncoder) -> None:
    """Score a grey image, so that what is wrong shows before the first request, which it speeds."""
    from PIL import Image

    from negrefine.evaluation.scored_image import score_rows

    pixels = encoder.preprocessing(Image.new("RGB", (64, 64), (127, 127, 127)))
    score_rows(detector, *encoder.encode_pixels([pixels], patches=detector.uses_patches))


def _stamp(path: Path) -> _Stamp:
    """Return what changes when detector.json is replaced, None if it is not there."""
    try:
        status = (path / MANIFEST).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
