"""Proposals in a JSON file, and a proposer that repeats them.

    {
      "format": "negrefine-proposals",
      "version": 1,
      "proposer": "openai:some-model",
      "similar": {"tabby cat": ["ocelot", "genet"], "daisy": ["gazania"]},
      "far": ["guitar", "waterfall"]
    }

"similar" has the names proposed for each class, the best first, and "far" those of things that are
like no class; either may be left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from negrefine.errors import InputError
from negrefine.files.reading import read_json, reason
from negrefine.files.writing import check_replaceable, write_text
from negrefine.proposers.base import Proposer, ask_far, ask_similar
from negrefine.shown_text import json_text

FORMAT = "negrefine-proposals"
VERSION = 1
_MOST_BYTES = 64 << 20


class ReplayProposer:
    """Proposes what a file of proposals says, for a class the first n names.

    Attributes:
        proposer: Who made the proposals, as the file says, or "".

    Example:
        >>> text = '"similar": {"dog": ["jackal", "fox"]}, "far": ["bridge"]'
        >>> head = '"format": "negrefine-proposals", "version": 1'
        >>> _ = Path("proposals.json").write_text(f"{{{head}, {text}}}")
        >>> negrefine.ReplayProposer("proposals.json").propose_similar(["dog"], 1)
        {'dog': ['jackal']}
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file; InputError if it is missing, damaged or something else."""
        file = Path(path)
        self.name = f"replay({file.name})"
        try:
            data = read_json(file, _MOST_BYTES)
        except (OSError, ValueError) as error:
            raise InputError(
                f"The proposals {str(path)!r} cannot be read as JSON: {reason(error)}."
            ) from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(
                f"{str(path)!r} is no file of proposals: it must be a JSON object with "
                f'"format": "{FORMAT}", "version": {VERSION}, "similar" and "far".'
            )
        if type(data.get("version")) is not int or data["version"] != VERSION:
            raise InputError(
                f"The proposals {str(path)!r} are of version {data.get('version')!r}, and this "
                f"installation reads version {VERSION}: upgrade negrefine."
            )
        unknown = sorted(set(data) - {"format", "version", "proposer", "similar", "far"})
        if unknown:
            raise InputError(f"The proposals {str(path)!r} have the unknown field {unknown[0]!r}.")
        similar, far = data.get("similar", {}), data.get("far", [])
        if not (isinstance(similar, dict) and all(map(_is_names, similar.values()))):
            raise InputError(
                f'"similar" of {str(path)!r} must be an object with a list of names for each class.'
            )
        if not _is_names(far) or not isinstance(data.get("proposer", ""), str):
            raise InputError(
                f'"far" of {str(path)!r} must be a list of names, and "proposer" a text.'
            )
        self.proposer: str = data.get("proposer", "")
        self._similar: dict[str, list[str]] = similar
        self._far: list[str] = far

    def propose_similar(self, class_names: Sequence[str], n: int) -> Mapping[str, Sequence[str]]:
        """Return the first n names of each class; nothing for one that the file does not have."""
        return {name: self._similar.get(name, [])[:n] for name in class_names}

    def propose_far(self, class_names: Sequence[str], n: int) -> Sequence[str]:
        """Return the first n names."""
        del class_names
        return self._far[:n]


def write_proposals(
    path: str | os.PathLike[str],
    proposer: Proposer,
    class_names: Sequence[str],
    *,
    n_similar: int = 5,
    n_far: int = 0,
) -> None:
    """Ask a proposer, and write its cleaned proposals as a file for `ReplayProposer`.

    Raises:
        InputError: As the proposer, or the path holds something else than proposals.
    """
    file = Path(path)
    check_replaceable(file, f'"format": "{FORMAT}"')
    similar = ask_similar(proposer, class_names, n_similar) if n_similar else {}
    far = ask_far(proposer, class_names, n_far) if n_far else []
    content = {
        "format": FORMAT,
        "version": VERSION,
        "proposer": proposer.name,
        "similar": similar,
        "far": far,
    }
    write_text(file, json_text(content, indent=2) + "\n")


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
