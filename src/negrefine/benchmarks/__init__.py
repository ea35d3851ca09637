"""Published benchmarks: their class names, their image sets, and what is missing of the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negrefine.lazy_names import lazy_names

if TYPE_CHECKING:
    from negrefine.benchmarks.catalogue import (
        Benchmark,
        Dataset,
        Layout,
        class_list,
        list_benchmarks,
        list_class_lists,
        list_sets,
        load_benchmark,
        load_set,
    )
    from negrefine.benchmarks.data_check import Finding, check, locate

__all__ = [
    "Benchmark",
    "Dataset",
    "Finding",
    "Layout",
    "check",
    "class_list",
    "list_benchmarks",
    "list_class_lists",
    "list_sets",
    "load_benchmark",
    "load_set",
    "locate",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "catalogue": "Benchmark Dataset Layout class_list list_benchmarks list_class_lists "
        "list_sets load_benchmark load_set",
        "data_check": "Finding check locate",
    },
)
