"""What the user gave on the command line for a parameter of a detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Given:
    """The value of a parameter, and the option by which the user gave it."""

    option: str
    value: Any
