"""Packages whose public names are imported when they are first used (PEP 562).

torch takes more than a second to import, and numpy and Pillow a tenth: what a command, or a user of
one name, does not need is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package.

    `homes` are modules of the package and, for each, the names to take from it, with spaces between
    them; "" is for modules that are public themselves.
    """
    found = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in found:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not found[name]:
            return import_module(f"{package}.{name}")
        return getattr(import_module(f"{package}.{found[name]}"), name)

    def names() -> list[str]:
        return sorted(found)

    return get, names
