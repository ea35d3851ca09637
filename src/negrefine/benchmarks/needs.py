"""What reproducing the NegRefine paper needs: weights, image sets, disk and hours; no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from negrefine.benchmarks.catalogue import Dataset, read_data
from negrefine.benchmarks.data_check import Finding

_FEATURE_BYTES = 512 * 4
# Bytes for each image and row of the tables, in parts and scores.
_SCORE_BYTES = 24
_CACHE_GIGABYTES = 4.0
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class SetNeed:
    """An image set.

    `gigabytes` are those of the files if all are there (`is_measured`), else an estimate, None
    without one. `state` is that of `data_check.Finding`, or "not looked for".
    """

    dataset: Dataset
    gigabytes: float | None
    is_measured: bool
    state: str
    found: int


@dataclass(frozen=True, slots=True)
class Work:
    """Something that takes time: `least` to `most` of a unit, and hours by device in this order."""

    title: str
    least: int
    most: int
    hours: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Needs:
    """All of it.

    Attributes:
        sets: The image sets, the in-distribution one first.
        work: What takes time; `devices` are the titles of its hours, `bases` where these are from.
        result_gigabytes: What the results take on the disk.
        cache_gigabytes: What stored embeddings of texts take at most.
        memory_gigabytes: What remembered pairs take in memory at most.
    """

    sets: tuple[SetNeed, ...]
    work: tuple[Work, ...]
    devices: tuple[str, ...]
    bases: tuple[str, ...]
    result_gigabytes: float
    cache_gigabytes: float
    memory_gigabytes: float

    def total_hours(self, device: int) -> tuple[float, float]:
        """Return the least and the most hours on a device, given by its position."""
        both = [work.hours[device] for work in self.work]
        return sum(low for low, _ in both), sum(high for _, high in both)


def facts() -> dict[str, Any]:
    """Return what is known of weights, optional files, rates and the authors' own times."""
    return read_data("reproduction.json")


def needs(sets: Sequence[Dataset], findings: Sequence[Finding], n_seeds: int = 10) -> Needs:
    """Return what the run of NegRefine and that of the other methods need together.

    Both encode every image, because they resize with different filters.

    Args:
        sets: The image sets of the run.
        findings: Of those that were looked for; their sizes are measured, others are estimated.
        n_seeds: Draws of phrases, each of which is embedded and scored.
    """
    known, by_name = facts(), {finding.set_name: finding for finding in findings}
    n_images = sum(dataset.images or 0 for dataset in sets)
    # The other methods have published numbers on the sets without contamination alone.
    n_again = sum(dataset.images or 0 for dataset in sets if dataset.contamination is None)
    texts = known["texts"]
    drawn = texts["adjectives"] * texts["adjective_templates"]
    first = (
        texts["classes"] * (texts["noun_templates"] + 3)
        + texts["nouns"] * texts["noun_templates"]
        + drawn
        + texts["neglabel_words"]
        + texts["labels"]
    )
    n_texts = first + (n_seeds - 1) * drawn
    # At most: every pair of every image, with the filter and without, is new; of the labels of a
    # further seed, the phrases are.
    n_pairs = 2 * n_images * known["pairs_per_image"] * texts["noun_templates"]
    n_pairs += (n_seeds - 1) * n_pairs * texts["phrases"] // texts["labels"]
    # A row for each seed of CSP, of NegRefine and of its four variants, and for three methods.
    rows = 3 + 6 * n_seeds
    work = (
        _work(known, "images, encoded for two resize filters", "images", n_images + n_again),
        _work(known, "texts of class names and words, once", "texts", n_texts),
        _work(known, "texts of pairs for S_MM: none or all new", "pair_texts", 0, n_pairs),
        _work(known, f"scores of images, {rows} rows", "scores", rows * n_images),
        _work(known, "resamples for the intervals", "resamples", rows * _RESAMPLES),
    )
    return Needs(
        sets=tuple(_set_need(dataset, by_name.get(dataset.name)) for dataset in sets),
        work=work,
        devices=tuple(each["title"] for each in known["devices"]),
        bases=tuple(each["basis"] for each in known["devices"]),
        result_gigabytes=n_images * (2 * _FEATURE_BYTES + rows * _SCORE_BYTES) / 1e9,
        cache_gigabytes=_CACHE_GIGABYTES,
        memory_gigabytes=0.2 * n_seeds,
    )


def _work(
    known: dict[str, Any], title: str, unit: str, least: int, most: int | None = None
) -> Work:
    most = least if most is None else most
    hours = []
    for device in known["devices"]:
        an_hour = 3600 * _rate(known, device, unit)
        hours.append((least / an_hour, most / an_hour))
    return Work(title, least, most, tuple(hours))


def _rate(known: dict[str, Any], device: dict[str, Any], unit: str) -> float:
    """Return how many of a unit a device does in a second, measured or by the arithmetic."""
    if (measured := device.get(f"{unit}_per_second")) is not None:
        return float(measured)
    return float(1000 * device["teraflops"] / known["gigaflop"][unit])


def _set_need(dataset: Dataset, finding: Finding | None) -> SetNeed:
    if finding is not None and finding.images is not None and finding.ok:
        total = sum(path.stat().st_size for path in finding.images.paths)
        return SetNeed(dataset, total / 1e9, True, finding.status, finding.found)
    each = facts()["kilobytes_per_image"].get(dataset.name)
    size = None if each is None or dataset.images is None else each * dataset.images / 1e6
    state = "not looked for" if finding is None else finding.status
    return SetNeed(dataset, size, False, state, 0 if finding is None else finding.found)
