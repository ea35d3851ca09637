"""What /metrics says, for Prometheus. Labels take few values: paths known, names of detectors."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from negrefine.evaluation.scored_image import ScoredImage

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "negrefine_requests", "Requests.", ["endpoint", "status"], registry=registry
        )
        self.seconds = Histogram(
            "negrefine_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batches = Histogram(
            "negrefine_batch_images",
            "Images that were encoded together.",
            buckets=_IMAGES,
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "negrefine_batch_seconds",
            "Seconds that encoding and scoring a batch took.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue = Gauge("negrefine_queue_images", "Images that wait.", registry=registry)
        self.encoders = Gauge(
            "negrefine_encoders",
            "Encoders in memory, one for detectors on the same.",
            registry=registry,
        )
        self.bodies = Gauge(
            "negrefine_bodies_bytes", "Bytes of bodies under way.", registry=registry
        )
        self.shed = Counter(
            "negrefine_shed_requests",
            "Requests that got a 503, by reason: queue, bodies, deadline, stopping.",
            ["reason"],
            registry=registry,
        )
        self.unreadable = Counter(
            "negrefine_unreadable_images", "Images that could not be read.", registry=registry
        )
        self.verdicts = Counter(
            "negrefine_verdicts",
            "Images by verdict: ID, OOD, or none without a threshold.",
            ["detector", "verdict"],
            registry=registry,
        )
        self.p_values = Histogram(
            "negrefine_p_value",
            "Conformal p-values; evenly spread while images are like those of the calibration.",
            ["detector"],
            buckets=tuple(i / 10 for i in range(1, 11)),
            registry=registry,
        )
        self.reloads = Counter(
            "negrefine_reloads",
            "Detectors loaded again after a save: ok or failed.",
            ["detector", "result"],
            registry=registry,
        )
        self.stale = Gauge(
            "negrefine_detector_stale",
            "1 while the detector on disk cannot be loaded and an earlier one serves.",
            ["detector"],
            registry=registry,
        )
        for reason in ("queue", "bodies", "deadline", "stopping"):
            self.shed.labels(reason)

    def batch(self, n_images: int, seconds: float) -> None:
        """Count a batch."""
        self.batches.observe(n_images)
        self.batch_seconds.observe(seconds)

    def count_rows(self, detector: str, rows: Iterable[ScoredImage], n_errors: int) -> None:
        """Count scored images, and those that could not be read."""
        self.unreadable.inc(n_errors)
        for row in rows:
            self.verdicts.labels(detector, row.verdict or "none").inc()
            if row.p_value is not None:
                self.p_values.labels(detector).observe(row.p_value)

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return bytes(generate_latest(self.registry))
