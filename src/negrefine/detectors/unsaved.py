"""A stand-in for a user's object that a saved detector names but does not contain."""

from __future__ import annotations

from dataclasses import dataclass

from negrefine.errors import InputError


@dataclass(frozen=True)
class Unsaved:
    """Stands where a loaded detector had a lexicon or judge of the user's own.

    Attributes:
        parameter: "lexicon" or "judge".
        name: What the object was.
    """

    parameter: str
    name: str

    def error(self) -> InputError:
        """Return the error that fitting again raises."""
        return InputError(
            f"The {self.parameter} {self.name!r} is not part of the saved detector: give it with "
            f"set_params({self.parameter}=...) before fitting again."
        )
