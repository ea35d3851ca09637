"""Whether the sizes in a model's config.json are those of its weights, before anything is built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError, safe_open

from negrefine.errors import NegrefineError

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

# Names of sizes in the configurations of language models and of their parts.
_LAYERS = frozenset(
    {"num_hidden_layers", "num_layers", "num_decoder_layers", "n_layer", "n_layers"}
)
_WIDTHS = frozenset({"hidden_size", "n_embd", "d_model"})
_DIMENSIONS = _WIDTHS | {
    *("vocab_size", "intermediate_size", "n_inner", "ffn_dim", "d_ff", "head_dim"),
    *("num_attention_heads", "num_key_value_heads", "n_head", "num_heads", "projection_dim"),
}
# Quantised weights hold up to eight numbers in one, and layers may have narrow projections.
_MOST_PER_NUMBER = 16


def tensor_shapes(
    files: Iterable[Path], name: str, error: type[NegrefineError]
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in safetensors files, whose heads alone are read.

    Raises:
        error: A file is no whole safetensors file.
    """
    shapes = {}
    for file in files:
        try:
            with safe_open(file, framework="numpy") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - not a mapping
                    shapes[key] = tuple(tensors.get_slice(key).get_shape())
        except (OSError, SafetensorError) as failure:  # noqa: PERF203 - the file is named
            raise error(
                f"The weights of {name!r} cannot be loaded ({file.name}: {failure}): the file is "
                "cut short or damaged, download it again."
            ) from failure
    return shapes


def check_sizes(
    config: Mapping[str, Any], shapes: Shapes, name: str, error: type[NegrefineError]
) -> None:
    """Raise `error` for sizes in config.json that no model with these tensors can have.

    A model of the sizes that pass is at most a few times as large as the files of its weights.
    """
    tensors = [shape for shape in shapes.values() if all(shape)]
    largest = max((side for shape in tensors for side in shape), default=0)
    numbers = sum(map(prod, tensors))
    for where, part in _parts(config, "config.json"):
        sizes = {
            key: value
            for key, value in part.items()
            if key in _LAYERS | _DIMENSIONS and type(value) is int
        }
        for key, value in sizes.items():
            if value < 1:
                raise error(f"{where} of {name!r} gives {key} as {value}: correct it.")
            limit = len(tensors) if key in _LAYERS else largest
            if value > limit:
                what = "tensors in all" if key in _LAYERS else "as the largest side of a tensor"
                raise _foreign(where, name, f"{key} as {value:,}", f"{limit:,} {what}", error)
        layers = max((sizes[key] for key in sizes if key in _LAYERS), default=0)
        width = max((sizes[key] for key in sizes if key in _WIDTHS), default=0)
        if layers * width**2 > _MOST_PER_NUMBER * numbers:
            given = f"{layers:,} layers of width {width:,}"
            raise _foreign(where, name, given, f"{numbers:,} numbers in all", error)


def _parts(config: Mapping[str, Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a configuration and those inside it, each with where it is."""
    yield where, config
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _parts(value, f"{key} in {where}" if where == "config.json" else where)


def check_shapes(
    expected: Mapping[str, tuple[str, tuple[int, ...]]],
    shapes: Shapes,
    name: str,
    error: type[NegrefineError],
) -> None:
    """Raise `error` for a tensor of another shape than config.json says.

    `expected` has for each tensor the fields that decide its shape, and this shape. Tensors that
    the weights lack are passed over.
    """
    for tensor, (fields, shape) in expected.items():
        found = shapes.get(tensor, shape)
        if found != shape:
            given = f"{fields}, so {tensor} is {_sides(shape)}"
            raise _foreign("config.json", name, given, f"it as {_sides(found)}", error)


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _foreign(
    where: str, name: str, given: str, found: str, error: type[NegrefineError]
) -> NegrefineError:
    return error(
        f"The weights of {name!r} and its config.json do not belong together: {where} gives "
        f"{given}, and the weights have {found}."
    )
