"""Constructor parameters as JSON data and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from negrefine.errors import InputError
from negrefine.labels.prompts import Prompts


@dataclass(frozen=True)
class Unsaved:
    """Takes the place of a user's own lexicon or judge in a loaded detector.

    Attributes:
        parameter: "lexicon" or "judge".
        name: What the object was called.
    """

    parameter: str
    name: str

    def error(self) -> InputError:
        """Return the error that fitting again raises."""
        return InputError(
            f"The {self.parameter} {self.name!r} is not part of the saved detector: give it with "
            f"set_params({self.parameter}=...) before fitting again."
        )


def encode_parameter(value: Any) -> Any:
    """Return a parameter as JSON data; of a user's own object only the name is left."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Prompts):
        return value.as_dict()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Iterable):
        return [encode_parameter(item) for item in value]
    return {"unsaved": str(getattr(value, "name", type(value).__name__))}


def decode_parameters(encoded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of `encode_parameter`; what was not saved becomes `Unsaved`."""
    decoded: dict[str, Any] = {}
    for name, value in encoded.items():
        if name == "prompts" and value is not None:
            decoded[name] = Prompts(**value)
        elif isinstance(value, dict):
            decoded[name] = Unsaved(name, value["unsaved"])
        else:
            decoded[name] = value
    return decoded
