"""The options of an evaluation over streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

from negrefine.cli.bundles import option
from negrefine.cli.given import Given
from negrefine.cli.options import split_list
from negrefine.cli.output import warn
from negrefine.errors import InputError
from negrefine.similar_names import hint

if TYPE_CHECKING:
    from negrefine.detectors import Detector
    from negrefine.evaluation.stream_orders import StreamSetting
    from negrefine.evaluation.streams import StreamPlan

_METHODS = "adaneg,tanl,oodd"
_ORDERS, _RATIOS, _BATCHES, _SEEDS = "shuffled,mixed,bursts", "natural,none", "256", "0-4"


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """Whether and how methods that learn from the stream are evaluated."""

    stream: bool = option(
        False,
        "Also run methods that learn from the images they score, over streams of the images, each "
        "on the negative labels of each method that has some.",
        name="--stream",
    )
    stream_methods: str | None = option(
        None,
        f"Out of adaneg, adaneg-sample, tanl, tanl-official and oodd; default: {_METHODS}.",
        "LIST",
    )
    stream_orders: str | None = option(
        None,
        "ID images shuffled with one OOD set, mixed with all, or with one in bursts; default: "
        f"{_ORDERS}.",
        "LIST",
    )
    stream_ratios: str | None = option(
        None,
        "ID to OOD images: 'natural' (all of them), such as '1:1' or '100:1', or 'none' (no OOD "
        f"image, false alarms only); default: {_RATIOS}.",
        "LIST",
    )
    stream_batch_sizes: str | None = option(
        None, f"Images in a batch of a stream; default: {_BATCHES}.", "LIST"
    )
    stream_seeds: str | None = option(
        None,
        f"Seeds of the streams, such as '0,1,2' or '0-9'; five or more; default: {_SEEDS}.",
        "LIST",
    )
    oodd_weight: float | None = option(
        None, "Weight of OODD's cosine against the score it wraps; default: 1.", "NUMBER"
    )

    def check(self) -> StreamChoice | None:
        """Check the options before an encoder is loaded; None without --stream."""
        given = self._given()
        if not self.stream:
            if given:
                first = next(iter(given.values())).option
                raise InputError(f"{first} has no effect without --stream: add it.")
            return None
        from negrefine.constraints import FINITE
        from negrefine.evaluation.stream_orders import StreamSetting
        from negrefine.evaluation.streams import VARIANTS

        methods = split_list("--stream-methods", self.stream_methods or _METHODS)
        for method in methods:
            if method not in VARIANTS:
                said = hint(method, sorted(VARIANTS), least=0.7)
                raise InputError(f"There is no stream method {method!r}: {said}")
        if self.oodd_weight is not None:
            if "oodd" not in methods:
                raise InputError("--oodd-weight has no effect without oodd: leave it out.")
            FINITE("--oodd-weight", self.oodd_weight)
        sizes = split_list("--stream-batch-sizes", self.stream_batch_sizes or _BATCHES)
        if not all(size.isdecimal() and int(size) > 0 for size in sizes):
            raise InputError(
                "--stream-batch-sizes takes whole numbers of at least 1, not "
                f"{self.stream_batch_sizes!r}."
            )
        orders = split_list("--stream-orders", self.stream_orders or _ORDERS)
        ratios = split_list("--stream-ratios", self.stream_ratios or _RATIOS)
        settings = [
            StreamSetting(order, ratio, int(size))
            for size, ratio, order in product(sizes, ratios, orders)
        ]
        seeds = seed_numbers("--stream-seeds", self.stream_seeds or _SEEDS)
        if len(seeds) < 5:
            raise InputError(
                f"--stream-seeds names {len(seeds)}: give five or more, because the order of the "
                "images is the largest source of chance."
            )
        return StreamChoice(methods, settings, seeds, self.oodd_weight)

    def _given(self) -> dict[str, Given]:
        names = ("methods", "orders", "ratios", "batch_sizes", "seeds")
        values = {f"stream_{name}": getattr(self, f"stream_{name}") for name in names}
        values["oodd_weight"] = self.oodd_weight
        return {
            name: Given(f"--{name.replace('_', '-')}", value)
            for name, value in values.items()
            if value is not None
        }


@dataclass(frozen=True)
class StreamChoice:
    """Options that have been checked."""

    methods: list[str]
    settings: list[StreamSetting]
    seeds: list[int]
    oodd_weight: float | None

    def plan(self, detectors: Mapping[str, Detector]) -> StreamPlan:
        """Return the streams on every fitted detector with negative labels."""
        from negrefine.evaluation.streams import VARIANTS, StreamPlan
        from negrefine.streaming import OODD

        bases = {row: each for row, each in detectors.items() if each.negatives_ is not None}
        if not bases:
            raise InputError(
                "--stream needs a method with negative labels: add neglabel, csp or negrefine to "
                "--methods."
            )
        if left_out := [row for row in detectors if row not in bases]:
            warn(f"no stream learns on {', '.join(left_out)}: without negative labels.")
        streams = {}
        for method in self.methods:
            title, make = VARIANTS[method]
            if method == "oodd" and self.oodd_weight is not None:
                make = partial(OODD, weight=self.oodd_weight)
            for base in bases.values():
                streams[f"{title} + {base.title}"] = make(base)
        return StreamPlan(streams, self.settings, self.seeds)


def seed_numbers(option_name: str, text: str) -> list[int]:
    """Return the seeds of texts such as "0,1,2" and "0-9", each once."""
    seeds: list[int] = []
    for part in split_list(option_name, text):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InputError(
                f"{option_name} takes whole numbers such as '0,1,2' or '0-9', not {text!r}."
            )
        seeds += range(int(first), int(last if dash else first) + 1)
    if not seeds:
        raise InputError(f"{option_name} {text!r} contains no number: write the smaller one first.")
    return list(dict.fromkeys(seeds))
