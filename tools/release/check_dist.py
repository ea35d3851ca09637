"""Look into a wheel and a source distribution: what must be there, and what must not.

    python tools/release/check_dist.py dist/

Prints sizes, and exits with 1 and a line for each fault.
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
# PyPI takes 100 MB; the wheel holds the two encoders of the package (28 MB) and WordNet (3 MB).
MOST_WHEEL_BYTES = 40 << 20
IN_WHEEL = (
    "negrefine/py.typed",
    "negrefine/labels/data/WORDNET-LICENSE.txt",
    "negrefine/labels/data/wordnet-3.1.parquet",
    "negrefine/encoders/builtin/model/model.safetensors",
    "negrefine/encoders/builtin_photo/model/model.safetensors",
    "negrefine/encoders/recommended.json",
    "negrefine/demo/images/LICENSE.txt",
    "negrefine/report/page.html.jinja",
    "negrefine/serving/page/app.css",
)
IN_SDIST = (
    *("pyproject.toml", "README.md", "CHANGELOG.md", "CITATION.cff", "SECURITY.md", "LICENSE"),
    *("NOTICE.md", "src/negrefine/py.typed", "tests/conftest.py", "docs/methods.md"),
)
# Nothing that runs on unpickling, nothing of the workplace, no caches.
FORBIDDEN = re.compile(
    r"(^|/)(__pycache__|\.git|\.venv|\.mypy_cache|\.pytest_cache|\.ruff_cache|\.hypothesis|shared"
    r"|dist|build|demo-results|node_modules)(/|$)"
    r"|\.(py[co]|pkl|pickle|pt|pth|bin|npy|npz|so|orig|rej|log|DS_Store)$"
)


def version() -> str:
    """Return the version of pyproject.toml, the one place of it."""
    match = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return "" if match is None else match[1]


def faults_of_names(names: set[str], needed: tuple[str, ...], where: str) -> Iterator[str]:
    for name in needed:
        if name not in names:
            yield f"{where} lacks {name}"
    for name in sorted(names):
        if FORBIDDEN.search(name):
            yield f"{where} holds {name}"


def faults_of_wheel(file: Path) -> Iterator[str]:
    if file.stat().st_size > MOST_WHEEL_BYTES:
        yield f"{file.name} has {file.stat().st_size:,} bytes, more than {MOST_WHEEL_BYTES:,}"
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        yield from faults_of_names(names, IN_WHEEL, file.name)
        for name in sorted(names):
            top = PurePosixPath(name).parts[0]
            if top not in {"negrefine", f"negrefine-{version()}.dist-info"}:
                yield f"{file.name} holds {name} outside the package"
        info = f"negrefine-{version()}.dist-info"
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        for licence in metadata.get_all("License-File") or ["none"]:
            if f"{info}/licenses/{licence}" not in names:
                yield f"{file.name} lacks the licence file {licence}"
        if metadata["Version"] != version():
            yield f"{file.name} says version {metadata['Version']}"
        if b"negrefine = negrefine.cli:main" not in archive.read(f"{info}/entry_points.txt"):
            yield f"{file.name} has no command negrefine"
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "negrefine").rglob("*")
        if path.is_file() and not FORBIDDEN.search(path.relative_to(ROOT).as_posix())
    }
    for name in sorted(sources - names):
        yield f"{file.name} lacks {name}"


def faults_of_sdist(file: Path) -> Iterator[str]:
    with tarfile.open(file) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers()}
        yield from faults_of_names(names, IN_SDIST, file.name)
        for member in archive.getmembers():
            if not (member.isfile() or member.isdir()):
                yield f"{file.name} holds {member.name}, which is no file"


def main() -> int:
    folder = Path(sys.argv[1])
    wheel = folder / f"negrefine-{version()}-py3-none-any.whl"
    sdist = folder / f"negrefine-{version()}.tar.gz"
    faults = [f"{file} is missing" for file in (wheel, sdist) if not file.is_file()]
    if not faults:
        faults = [*faults_of_wheel(wheel), *faults_of_sdist(sdist)]
        for file in (wheel, sdist):
            print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
