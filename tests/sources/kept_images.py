"""The same few pictures in everything that keeps images, and a web server that cuts files."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

N = 6


def png(seed: int, size: int = 12) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(n: int = N) -> dict[str, bytes]:
    return {f"{i:03}.png": png(i) for i in range(n)}


def write_tar(path: Path, members: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_everything(root: Path) -> None:
    """Write the pictures as folder, zip, tar, tar.gz, tables and a list."""
    images = pictures()
    (root / "folder").mkdir()
    for name, content in images.items():
        (root / "folder" / name).write_bytes(content)
    with zipfile.ZipFile(root / "all.zip", "w") as archive:
        for name, content in images.items():
            archive.writestr(f"inside/{name}", content)
    samples = {}
    for name, content in images.items():
        samples |= {name: content, name.replace(".png", ".json"): b"{}"}
    write_tar(root / "all.tar", samples)
    write_tar(root / "all.tar.gz", samples, "w:gz")
    contents = list(images.values())
    structs = [{"bytes": content, "path": None} for content in contents]
    label = list(range(N))
    tables = {
        "structs": {"image": structs, "label": label},
        "bytes": {"label": label, "picture": contents},
        "paths": {"file": [f"folder/{name}" for name in images], "other": ["x"] * N},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), root / f"{name}.parquet", row_group_size=4)
    lines = ["# pictures", "", *(f"folder/{name}" for name in images)]
    (root / "list.txt").write_text("\n".join(lines), encoding="utf-8")


class _Handler(SimpleHTTPRequestHandler):
    """Serves a folder; of what has "cut" in its name only the first half comes.

    With "?busy=N" in an address its first N requests get the answer 503, or no answer if N ends in
    "x".
    """

    asked: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        """Answer, or be busy."""
        _, _, busy = self.path.partition("?busy=")
        self.asked[self.path] += 1
        if busy and self.asked[self.path] <= int(busy.rstrip("x")):
            if not busy.endswith("x"):
                self.send_error(503)
            self.close_connection = True
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def copyfile(self, source, outputfile) -> None:  # type: ignore[no-untyped-def]
        content = source.read()
        n = len(content) // 2 if "cut" in self.path else len(content)
        outputfile.write(content[:n])


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Yield the address of a real web server on loopback."""
    handler = partial(_Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
