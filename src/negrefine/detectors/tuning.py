"""What a saved detector says about parameters that were chosen on a validation set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from negrefine.constraints import FINITE, Constraint, Fields, Number, Text, Whole, check_all
from negrefine.errors import InputError

_SHA256 = re.compile(r"[0-9a-f]{64}")
Values = Mapping[str, "str | int | float | None"]


def _check_digest(name: str, value: Any) -> None:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise InputError(f"{name} must be a SHA-256 sum of 64 hexadecimal digits.")


def _check_values(name: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not value:
        raise InputError(f"{name} must be an object with parameters.")
    for key, each in value.items():
        if not isinstance(key, str) or type(each) not in {str, int, float, type(None)}:
            raise InputError(f"{name} must have numbers, texts and nulls by names of parameters.")


_CONSTRAINTS: Mapping[str, Constraint] = {
    "validation": Text(),
    "n_validation": Whole(1),
    "validation_images": _check_digest,
    "n_id": Whole(1),
    "id_images": _check_digest,
    "candidates": Whole(1),
    "chosen": _check_values,
    "instead_of": _check_values,
    "gain": FINITE,
    "low": FINITE,
    "high": FINITE,
    "p_value": Number("lie in [0, 1]", low=0, high=1, closed="both"),
}


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was tuned, on which images, and how clear the choice was.

    Attributes:
        validation: Name of the OOD set that chose.
        n_validation: Number of its images.
        validation_images: SHA-256 (hex) over their contents, whatever their names and order.
        n_id: Number of in-distribution images.
        id_images: SHA-256 (hex) over their contents.
        candidates: Number of combinations that were compared.
        chosen: Parameter to its value in the detector.
        instead_of: The same parameters to the values before.
        gain: AUROC of the best candidate minus that of `instead_of`, on these images, where it
            looks better than it is.
        low: Lower end of its 95 % interval of a paired bootstrap.
        high: Upper end.
        p_value: Chance of a gain this large among as many candidates if none were better.
    """

    validation: str
    n_validation: int
    validation_images: str
    n_id: int
    id_images: str
    candidates: int
    chosen: Values
    instead_of: Values
    gain: float
    low: float
    high: float
    p_value: float

    def __post_init__(self) -> None:
        check_all(self, _CONSTRAINTS)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, content: Any) -> Tuning:
        """Take up the fields of `as_dict`; InputError for anything else."""
        Fields(_CONSTRAINTS)("tuning", content)
        return cls(**{name: content[name] for name in _CONSTRAINTS})

    @property
    def kept(self) -> bool:
        """Whether the values are those from before."""
        return dict(self.chosen) == dict(self.instead_of)

    def is_of(self, owner: object) -> bool:
        """Return whether an object has the values that were chosen."""
        return all(getattr(owner, name, None) == value for name, value in self.chosen.items())

    def __str__(self) -> str:
        images = f"{self.n_validation} images" if self.n_validation > 1 else "1 image"
        values = ", ".join(f"{name} {shown(value)}" for name, value in self.chosen.items())
        how = "left as they were after tuning" if self.kept else "tuned"
        return (
            f"{values}: {how} on the validation set {self.validation!r} ({images}, SHA-256 "
            f"{self.validation_images[:12]}) among {self.candidates} candidates."
        )


def shown(value: str | float | None) -> str:
    """Return a value of a parameter as text."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else f"{value:g}"
