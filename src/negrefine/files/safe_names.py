"""Names of files and folders from text that others have chosen, which any file system takes."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePath

from negrefine.shown_text import visible

# Some encrypted file systems allow 143 bytes; a number may be added.
_MAX_BYTES = 130
_MAX_SUFFIX_BYTES = 16
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
# Windows drops them at the end; at the front a dot hides, and spaces are overlooked.
_ENDS = re.compile(r"^[. ]+|[. ]+$")
# Devices of Windows, whatever the extension.
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\xb9\xb2\xb3])(?= *(?:\.|$))", re.I
)
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"


def safe_name(text: str) -> str:
    r"""Return a name like `text` that is one on Linux, macOS and Windows, and shows all of itself.

    Slashes and other characters that have a meaning there become "_", control and invisible
    characters escapes such as "_x1b", dots and spaces at the ends "_"; names of devices get a "_"
    ("con_.png"), and what is longer than 130 bytes ends in a digest of the whole. Two texts may
    have the same name: see `FreeNames`.
    """
    name = _FORBIDDEN.sub("_", visible(text))
    name = _ENDS.sub(lambda match: "_" * len(match[0]), name) or "_"
    if device := _DEVICE.match(name):
        name = f"{device[0]}_{name[device.end() :]}"
    if len(name.encode("utf-8")) > _MAX_BYTES:
        suffix = PurePath(name).suffix
        if len(suffix.encode("utf-8")) > _MAX_SUFFIX_BYTES:
            suffix = ""
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        room = _MAX_BYTES - len(f"~{digest}{suffix}".encode())
        head = name.encode("utf-8")[:room].decode("utf-8", "ignore").rstrip(_JOINERS)
        name = f"{head}~{digest}{suffix}"
    return name


def same_place(name: str) -> str:
    """Return what two names share that a file system may take for one: case and composition."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


class FreeNames:
    """Gives each file of a folder a name that no other has, in upper or lower case.

    Args:
        taken: Names that are there.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {same_place(name) for name in taken}
        self._numbers: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return same_place(name) in self._taken

    def take(self, name: str, *, is_file: bool = True) -> str:
        """Return the name, or it with the first free number, such as "a (2).png", and take it."""
        free, stem, suffix = name, name, ""
        if is_file:
            suffix = PurePath(name).suffix
            stem = name.removesuffix(suffix)
        number = self._numbers.get(same_place(name), 1)
        while free in self:
            number += 1
            free = f"{stem} ({number}){suffix}"
        self._numbers[same_place(name)] = number
        self._taken.add(same_place(free))
        return free
