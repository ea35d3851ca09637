"""Published benchmarks: their class names, where their images lie, and what is missing."""

from negrefine.benchmarks.catalogue import (
    Benchmark,
    ImageSet,
    Layout,
    list_benchmarks,
    list_sets,
    load_benchmark,
    load_set,
)
from negrefine.benchmarks.class_lists import class_list, list_class_lists
from negrefine.benchmarks.data_check import Finding, check, locate

__all__ = [
    "Benchmark",
    "Finding",
    "ImageSet",
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
