"""Find image files: those named, in folders, or matching patterns, and say what was left out."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from PIL import Image

from negrefine.errors import InputError
from negrefine.files.regular import open_regular, special_kind
from negrefine.shown_text import visible

# Pillow registers these too: data, films, and drawings that need an external interpreter.
NO_IMAGES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})

# Many look like TIFF, and Pillow would read the small preview in them as the image.
_RAW = {
    *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "iiq", "kdc", "mef", "mos"),
    *("mrw", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
}
# Files that file managers make; hidden ones are never looked at.
_NO_NOISE = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
    b"8BPS": "PSD",
    b"qoif": "QOI",
}
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
# What may be secret in a URL, also in one that went through Path: "http:/user:password@host".
_USER, _QUERY = re.compile(r"^(\w+:/+)[^/?#]*@"), re.compile(r"[?#].*", re.DOTALL)
_URL = re.compile(r"(?:https?|ftps?|s3|gs|gcs|az|abfss?|hdfs|hf|file):/|data:[\w/+.-]*[;,]", re.I)

INSTALL_HEIF = "pip install 'negrefine[heif]' to read HEIC"


def find_images(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the image files that are named, in folders, or match patterns.

    A folder gives all image files below it; hidden files and folders are skipped, links to folders
    followed once. A pattern (`*`, `?`, `[...]`, and `**` for any depth) gives the image files, and
    those of the folders, that match it. Image files are those with the extension of a format that
    Pillow opens, and others that start as an image does. What else is there is left out, and one
    warning counts it by kind. A file that is named itself is kept whatever it is. `~` is the home
    folder. The order is that of the arguments, sorted within each; a file that is found twice is
    kept where it is found first.

    Raises InputError if nothing is given, a path is missing, a folder cannot be listed or holds no
    image, or a pattern matches none.
    """
    return [file for file, _ in _find(paths)]


def find_grouped_images(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> tuple[list[Path], list[str]]:
    """Return what `find_images` does, and for each image the name of its group.

    In a folder this is the first folder below it, "" for none. For a pattern it is the first
    folder below the part without `*`, `?` and `[`; for images right in there, and for files that
    are named themselves, the folder that the image is in.
    """
    found = _find(paths)
    return [file for file, _ in found], [_group(file, argument) for file, argument in found]


def find_images_of_each(
    paths: Sequence[str | os.PathLike[str]],
) -> list[list[Path]]:
    """Return what `find_images` does for several arguments, those of each by itself."""
    found: dict[str, list[Path]] = {}
    for file, argument in _find(paths):
        found.setdefault(argument, []).append(file)
    # What is named twice has its images where it is named first.
    return [found.pop(expanded(os.fspath(path)), []) for path in paths]


def images_below(
    folder: str | os.PathLike[str], left_out: dict[str, str] | None = None
) -> list[Path]:
    """Return the image files below a folder, if any; order and errors are as for `find_images`.

    The other files are added to `left_out`, path to kind.
    """

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: the folder cannot be listed ({error.strerror}); make it readable or"
            " leave it out."
        ) from error

    others = {} if left_out is None else left_out
    files = []
    entered: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        status = Path(here).stat()
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = (Path(here, name) for name in names)
        files += [file for file in inside if _is_image(str(file), others)]
    return sorted(files)


def may_find_below(path: str, folder: str | os.PathLike[str]) -> bool:
    """Return whether `find_images(path)` would look at images in `folder`, and in folders there.

    `folder` need not be there yet.
    """
    argument, places = expanded(path), {os.path.abspath(folder), os.path.realpath(folder)}  # noqa: PTH100
    if os.path.isdir(argument):  # noqa: PTH112
        root = Path(os.path.realpath(argument))
        return any(root in (Path(place), *Path(place).parents) for place in places)
    if os.path.lexists(argument) or not glob.has_magic(argument):
        return False
    pattern = Path(os.path.abspath(argument)).parts  # noqa: PTH100
    return any(_may_match(pattern, Path(place).parts) for place in places)


def _may_match(pattern: Sequence[str], folder: Sequence[str]) -> bool:
    """Return whether a pattern may match a folder, one above it, or files at most two below it."""
    for part, name in zip(pattern, folder, strict=False):
        if part == "**":
            return True
        if not fnmatch(name, part):
            return False
    return len(pattern) <= len(folder) + 2 or "**" in pattern[len(folder) :]


def kind_by_content(start: bytes) -> str | None:
    """Return the image format that a file's first 32 bytes show, in Pillow's names; None if none.

    "HEIC" and "raw" are formats that Pillow alone does not read.
    """
    if start[4:8] == b"ftyp":
        if start[8:12] in {b"avif", b"avis"} or b"avif" in start[16:]:
            return "AVIF"
        return "HEIC" if start[8:12] in _HEIC else "raw" if start[8:12] == b"crx " else None
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    # Texts may start with BM: the size of the second header is looked at too.
    if (
        start[:2] == b"BM"
        and start[15:18] == b"\0\0\0"
        and start[14:15] in b"\x0c\x28\x34\x38\x6c\x7c"
    ):
        return "BMP"
    if start[8:10] == b"CR" and start[:4] == b"II*\0":
        return "raw"
    return next((kind for magic, kind in _STARTS.items() if start.startswith(magic)), None)


def is_noise(name: str) -> bool:
    """Return whether this is the name of a file that is not looked at, nor counted."""
    return name.startswith(".") or name.lower() in _NO_NOISE


def has_image_extension(name: str) -> bool:
    """Return whether a name ends as those of a format that Pillow opens."""
    register_formats()
    kind = Image.registered_extensions().get(os.path.splitext(name)[1].lower())  # noqa: PTH122
    return kind in Image.OPEN and kind not in NO_IMAGES


def is_raw(name: str) -> bool:
    """Return whether this is a name of cameras' raw files."""
    return _extension(name) in _RAW


def url_problem(name: str) -> str | None:
    """Return the sentence about a URL in place of a path, None for anything else."""
    if not _URL.match(name):
        return None
    shown = _QUERY.sub("?***", _USER.sub(r"\1***@", name, count=1))
    shown = shown if len(shown) <= 200 else f"{shown[:60]}..."
    return f"{shown}: is a URL, and URLs are not fetched; download the image and give its path."


@cache
def register_formats() -> None:
    """Load all formats of Pillow, and HEIC if the package pillow-heif is installed."""
    Image.preinit()
    Image.init()
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def _find(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[tuple[Path, str]]:
    """Return each file with the argument that gave it, and warn about files left out."""
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not paths:
        raise InputError("No image is named; give image files, folders or patterns.")
    found: dict[str, tuple[Path, str]] = {}
    left_out: dict[str, str] = {}
    for path in paths:
        if not isinstance(path, (str, os.PathLike)):
            raise InputError(
                f"Images are found by paths, folders or patterns, not by {type(path).__name__};"
                " give their names."
            )
        argument = expanded(os.fspath(path))
        for file in _files_of(argument, left_out):
            found.setdefault(os.path.abspath(file), (file, argument))  # noqa: PTH100 - resolve() follows links
    others = {name: kind for name, kind in left_out.items() if name not in found}
    if others:
        n, were = len(others), "file was" if len(others) == 1 else "files were"
        warnings.warn(f"{n} other {were} left out ({kinds_text(others.values())}).", stacklevel=3)
    return list(found.values())


def expanded(path: str) -> str:
    """Return a path with "~" as the home folder, if nothing has just this name."""
    if not path.startswith("~") or os.path.lexists(path):
        return path
    return os.path.expanduser(path)  # noqa: PTH111 - Path raises RuntimeError for unknown users


def _files_of(path: str, left_out: dict[str, str]) -> list[Path]:
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a parent is not readable
        others: dict[str, str] = {}
        files = images_below(path, others)
        left_out |= others
        if not files:
            raise InputError(f"{path}: the folder holds no image{_only(others)}; check the path.")
        return files
    if os.path.lexists(path):
        if not os.path.exists(path):  # noqa: PTH110 - likewise
            raise InputError(f"{path}: is a link to a missing file; repair or remove it.")
        return [Path(path)]
    if problem := url_problem(path):
        raise InputError(problem)
    if not glob.has_magic(path):
        raise InputError(f"{path}: there is no such file or folder; check the path.")
    files, others = [], {}
    for match in glob.glob(path, recursive=True):  # noqa: PTH207 - Path.glob refuses absolute ones
        if Path(match).is_dir():
            files += images_below(match, others)
        elif _is_image(match, others):
            files.append(Path(match))
    left_out |= others
    if not files:
        raise InputError(f"{path}: the pattern matches no image{_only(others)}; check it.")
    return sorted(files)


def _is_image(path: str, left_out: dict[str, str]) -> bool:
    """Return whether a file in a folder is an image; it is opened if its extension says nothing."""
    name = os.path.basename(path)  # noqa: PTH119 - called for every file
    if is_noise(name):
        return False
    if has_image_extension(name):
        return True
    extension = _extension(name)
    try:
        other = special_kind(os.stat(path))  # noqa: PTH116
        content = None if other else _content(path)
    except OSError as error:
        other, content = (error.strerror or "not readable").lower(), None
    if content in Image.OPEN and extension not in _RAW:
        return True
    is_heif = content in {"HEIC", "AVIF"}
    if content == "HEIC" and "HEIF" in Image.OPEN:
        return True
    shown = content if is_heif and content else other or extension or "without extension"
    left_out[os.path.abspath(path)] = shown  # noqa: PTH100
    return False


def _content(path: str) -> str | None:
    with open_regular(path) as stream:
        return kind_by_content(stream.read(32))


def _extension(name: str) -> str:
    return Path(name).suffix.lower().removeprefix(".")


def kinds_text(kinds: Iterable[str]) -> str:
    """Return how many there are of each kind of files that are no images, the most first."""
    by_kind = Counter(kinds)
    counts = sorted(by_kind.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{n} {visible(_counted(kind, n))}" for kind, n in counts)
    return f"{text}; {INSTALL_HEIF}" if "HEIC" in by_kind else text


def _counted(kind: str, n: int) -> str:
    """Return "named pipe" or "named pipes" for "a named pipe"; other kinds as they are."""
    if not kind.startswith("a "):
        return kind
    noun, _, rest = kind.removeprefix("a ").partition(" of ")
    return noun + ("" if n == 1 else "s") + (f" of {rest}" if rest else "")


def _only(left_out: dict[str, str]) -> str:
    if not left_out:
        return ""
    n = len(left_out)
    return f", only {n} other file{'' if n == 1 else 's'} ({kinds_text(left_out.values())})"


def _group(file: Path, argument: str) -> str:
    is_folder = os.path.isdir(argument)  # noqa: PTH112
    root = Path(argument)
    if not is_folder:
        # A file that exists is no pattern, whatever brackets are in its name.
        is_pattern = not os.path.lexists(argument) and glob.has_magic(argument)
        parts = root.parts[:-1]
        if is_pattern:
            fixed = next(i for i, part in enumerate(root.parts) if glob.has_magic(part))
            parts = root.parts[:fixed]
        root = Path(*parts)
    inside = file.parts[len(root.parts) :]
    if len(inside) > 1:
        return inside[0]
    return "" if is_folder else Path(os.path.abspath(file)).parent.name  # noqa: PTH100
