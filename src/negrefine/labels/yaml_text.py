"""YAML that holds class names; only a YAML file imports the parser."""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml


def parse_yaml(text: str) -> Any:
    """Return what YAML of plain data holds.

    Raises:
        ValueError: It is no such YAML, or a key is in a mapping twice.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML in which no key is in a mapping twice: one of its values would be lost."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        counts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in counts.items():
            if count > 1 and key != "<<":
                raise ValueError(f"it holds the key {key[:80]!r} twice")
        return super().construct_mapping(node, deep)
