"""What a server allows and how it works: limits, batching, addresses."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from negrefine.constraints import Constraint, Number, Text, Whole, check_all
from negrefine.errors import InputError
from negrefine.serving.hosts import check_host_names

MIB = 1 << 20
_SECONDS = Number("be a positive number of seconds", low=0)


def _check_token(name: str, value: object) -> None:
    if value is None:
        return
    Text()(name, value)
    if not all("!" <= letter <= "~" for letter in str(value)):
        raise InputError(f"{name} must be printable ASCII without spaces, as HTTP headers hold it.")


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and ways of a server, checked when it is made.

    Attributes:
        max_bytes: Of the body of one request.
        max_bodies: Bytes of the bodies of all requests that are under way, at least `max_bytes`.
        max_images: In one request.
        max_pixels: Of one image, by its header, before it is decoded.
        queue: Images that may wait for an encoder, at least `max_images`.
        deadline: Seconds from the first byte of a request to its answer.
        batch_size: Images that are encoded at a time.
        batch_wait: Seconds that an image waits for others to be encoded with it.
        decoders: Threads that decode images; None for one for each usable core.
        poll: Seconds between two looks at the directories of the detectors.
        token: What "Authorization: Bearer" must hold, None for no check.
        hosts: Names that requests may be for, None for any. A server on the loopback interface
            should know only its own names, so that a page of another site whose name was pointed
            at this machine gets no answer.
        trusted_hosts: Further names, and the sites that may post from a browser.
    """

    max_bytes: int = 32 * MIB
    max_bodies: int = 256 * MIB
    max_images: int = 32
    max_pixels: int = 50_000_000
    queue: int = 256
    deadline: float = 30.0
    batch_size: int = 32
    batch_wait: float = 0.005
    decoders: int | None = None
    poll: float = 1.0
    token: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] | None = None
    trusted_hosts: tuple[str, ...] = ()

    constraints: ClassVar[MappingProxyType[str, Constraint]] = MappingProxyType(
        {
            "max_bytes": Whole(1),
            "max_bodies": Whole(1),
            "max_images": Whole(1),
            "max_pixels": Whole(1),
            "queue": Whole(1),
            "deadline": _SECONDS,
            "batch_size": Whole(1),
            "batch_wait": Number("be a number of seconds, 0 to 10", 0, 10, "both"),
            "decoders": Whole(1, optional=True),
            "poll": _SECONDS,
            "token": _check_token,
            "trusted_hosts": check_host_names,
        }
    )

    def __post_init__(self) -> None:
        """Raise InputError for a value that is none, or for two that contradict each other."""
        check_all(self, self.constraints)
        if self.queue < self.max_images:
            raise InputError(
                f"queue must be at least max_images, {self.max_images}, not {self.queue}: a request"
                " with more images than may wait would never be taken."
            )
        if self.batch_wait >= self.deadline:
            raise InputError(
                f"batch_wait must be shorter than the deadline of {self.deadline:g} seconds, not "
                f"{self.batch_wait:g}: images would wait until it is too late."
            )
        if self.max_bodies < self.max_bytes:
            raise InputError(
                f"max_bodies must be at least max_bytes, {self.max_bytes}, not {self.max_bodies}."
            )


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity and the limit of its container."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores
