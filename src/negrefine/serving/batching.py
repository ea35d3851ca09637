"""Images of many requests through one encoder: a bounded queue, and a thread that takes batches.

The event loop submits a `Ticket` for each request. Threads decode its images, and the encoder's one
thread takes what is ready, up to a batch, encodes it in one pass and scores the rows of each
detector. Detectors remember pairs of names while they score, so nothing else may score with them.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any, Protocol

import numpy as np

from negrefine.detectors import Detector
from negrefine.encoders.base import FloatArray
from negrefine.encoders.clip import CLIPEncoder
from negrefine.encoders.images import use_scored
from negrefine.errors import ImageError, is_out_of_memory
from negrefine.evaluation.scored_image import score_rows
from negrefine.serving.settings import Settings
from negrefine.serving.uploads import Upload
from negrefine.shown_text import visible

_LONGEST_WAIT = 60
# How limits are raised is no advice for clients.
_FOR_OPERATORS = re.compile(r"shrink the image, or .* if you trust it\.")


class QueueFullError(Exception):
    """Too many images wait; `seconds` is when fewer may."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Observer(Protocol):
    """Is told what a worker does."""

    def batch(self, n_images: int, seconds: float) -> None: ...


@dataclass(frozen=True)
class Task:
    """What is to be made of images: rows of scores, or explanations with `top` names."""

    detector: Detector
    top: int | None = None

    def __call__(self, features: FloatArray, patches: FloatArray | None) -> Sequence[Any]:
        """Return a result for each row of features."""
        if self.top is None:
            return score_rows(self.detector, features, patches)
        return self.detector.explain_features(
            features, patches=patches, top=self.top, unfiltered=True
        )


@dataclass(eq=False)
class Ticket:
    """A request's images on their way; `done` gets a result or an ImageError for each.

    Attributes:
        deadline: On the clock of `time.monotonic`; images that wait longer are not encoded.
    """

    task: Task
    n_images: int
    deadline: float
    done: Future[list[Any]] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self._results: list[Any] = [None] * self.n_images
        self._open = self.n_images
        self._lock = threading.Lock()

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for the results any more."""
        return self.done.done() or time.monotonic() > self.deadline

    def settle(self, position: int, result: Any) -> None:
        """Take the result of an image."""
        with self._lock:
            self._results[position] = result
            self._open -= 1
            last = not self._open
        if last:
            with suppress(InvalidStateError):
                self.done.set_result(self._results)

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        with suppress(InvalidStateError):
            self.done.set_exception(error)


@dataclass(frozen=True, eq=False)
class _Ready:
    """A decoded image."""

    ticket: Ticket
    position: int
    pixels: FloatArray
    since: float


class EncoderWorker:
    """The queue of one encoder, and the thread that empties it."""

    def __init__(
        self, encoder: CLIPEncoder, settings: Settings, decoders: Executor, observer: Observer
    ) -> None:
        self.encoder = encoder
        self._settings = settings
        self._decoders = decoders
        self._observer = observer
        self._changed = threading.Condition()
        self._ready: deque[_Ready] = deque()
        self._waiting = 0
        self._leases = 0
        self._retired = False
        self._seconds_per_image = 0.05
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images that are not in a batch yet."""
        return self._waiting

    @property
    def has_room(self) -> bool:
        """Whether one more image may wait."""
        return self._waiting < self._settings.queue

    def lease(self) -> None:
        """Keep the thread alive until `release`, even if the encoder is retired meanwhile."""
        with self._changed:
            self._leases += 1

    def release(self) -> None:
        """End a `lease`."""
        with self._changed:
            self._leases -= 1
            self._changed.notify_all()

    def retire(self) -> None:
        """Let the thread end when it has nothing to do and nobody has a lease."""
        with self._changed:
            self._retired = True
            self._changed.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait for the thread of a retired encoder; return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def submit(self, ticket: Ticket, images: Sequence[Upload]) -> None:
        """Queue all images of a request, or none; QueueFullError if they are too many."""
        with self._changed:
            if self._waiting + len(images) > self._settings.queue:
                raise QueueFullError(self.seconds_of(self._waiting))
            self._waiting += len(images)
        for position, image in enumerate(images):
            self._decoders.submit(self._decode, ticket, position, image)

    def seconds_of(self, n_images: int) -> int:
        """Return in about how many seconds so many images will be encoded, 1 to 60."""
        return max(1, min(_LONGEST_WAIT, ceil(n_images * self._seconds_per_image)))

    def _decode(self, ticket: Ticket, position: int, image: Upload) -> None:
        """Runs in a decoder's thread."""
        try:
            pixels = None if ticket.abandoned else self._pixels(image)
        except ImageError as error:
            ticket.settle(position, error)
            pixels = None
        except BaseException as error:
            ticket.fail(error)
            pixels = None
        with self._changed:
            if pixels is None:
                self._waiting -= 1
            else:
                self._ready.append(_Ready(ticket, position, pixels, time.monotonic()))
            self._changed.notify_all()

    def _pixels(self, image: Upload) -> FloatArray:
        preparing = self.encoder.preprocessing

        def bytes_of_use(size: tuple[int, int]) -> int:
            check_size(image.name, size, self._settings.max_pixels)
            return preparing.memory_bytes(size)

        try:
            return use_scored(self.encoder, image, preparing, bytes_of_use)
        except ImageError as error:
            sentence = _FOR_OPERATORS.sub("shrink the image.", str(error))
            # Errors of the preprocessing do not name the image.
            named = sentence.startswith(visible(image.name))
            raise ImageError(sentence if named else f"{image.name}: {sentence}") from error

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch is None:
                return
            if batch:
                self._encode(batch)

    def _take(self) -> list[_Ready] | None:
        """Return the next batch, perhaps empty, or None when the thread is to end."""
        with self._changed:
            while not self._ready:
                if self._retired and not self._waiting and not self._leases:
                    return None
                self._changed.wait()
            full, until = self._settings.batch_size, self._ready[0].since
            until += self._settings.batch_wait
            self._changed.wait_for(
                lambda: len(self._ready) >= full or self._retired,
                max(0.0, until - time.monotonic()),
            )
            batch: list[_Ready] = []
            while self._ready and len(batch) < full:
                image = self._ready.popleft()
                self._waiting -= 1
                if not image.ticket.abandoned:
                    batch.append(image)
            return batch

    def _encode(self, batch: list[_Ready]) -> None:
        started = time.monotonic()
        # Patches cost memory and time, so only those who need them pay.
        by_pass: dict[bool, list[_Ready]] = {}
        for image in batch:
            by_pass.setdefault(image.ticket.task.detector.uses_patches, []).append(image)
        for patches, images in by_pass.items():
            self._finish(images, patches=patches)
        seconds = time.monotonic() - started
        self._seconds_per_image += 0.2 * (seconds / len(batch) - self._seconds_per_image)
        self._observer.batch(len(batch), seconds)

    def _finish(self, images: list[_Ready], *, patches: bool) -> None:
        """Settle or fail images that go through the same pass."""
        try:
            self._pass(images, patches=patches)
        except Exception as error:
            _fail(images, error)

    def _pass(self, images: list[_Ready], *, patches: bool) -> None:
        """Encode images together, or in halves if they are too many for the memory."""
        try:
            pixels = [image.pixels for image in images]
            features, local = self.encoder.encode_pixels(pixels, patches=patches)
        except Exception as error:
            if len(images) == 1 or not is_out_of_memory(error):
                raise
        else:
            _score(images, features, local)
            return
        middle = len(images) // 2
        self._pass(images[:middle], patches=patches)
        self._pass(images[middle:], patches=patches)


def _score(images: list[_Ready], features: FloatArray, patches: FloatArray | None) -> None:
    """Score the rows of each task together, and settle or fail their images."""
    tasks: dict[Task, list[int]] = {}
    for row, image in enumerate(images):
        tasks.setdefault(image.ticket.task, []).append(row)
    for task, rows in tasks.items():
        at = np.array(rows)
        local = None if patches is None else patches[at]
        _settle([images[row] for row in rows], partial(task, features[at], local))


def _settle(images: Sequence[_Ready], results_of: Callable[[], Sequence[Any]]) -> None:
    try:
        results = results_of()
    except Exception as error:
        _fail(images, error)
        return
    for image, result in zip(images, results, strict=True):
        image.ticket.settle(image.position, result)


def _fail(images: Sequence[_Ready], error: Exception) -> None:
    for image in images:
        image.ticket.fail(error)


def check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    """Raise ImageError for an image (width, height) of more than `max_pixels`."""
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width:,} x {height:,} pixels are more than the {max_pixels:,} that this "
            "server takes; shrink the image."
        )
