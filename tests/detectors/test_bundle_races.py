"""Several processes on one saved detector: every load gives one of the detectors as a whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from negrefine import MCM, load_detector
from negrefine.detectors.bundle import version_of
from negrefine.encoders import CLIPEncoder
from negrefine.errors import BundleError
from negrefine.files.lock import lock_directory

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

# Children end with 0 if all went well; an exception ends one with 1.
COMMON = """
import os, random, signal, sys, time
from negrefine import MCM, load_detector, load_encoder
from negrefine.errors import BundleError

path = sys.argv[1]
encoder = load_encoder("builtin", device="cpu")
names = [f"name {i}" for i in range(400)]
fitted = [MCM(encoder).fit(names[i::4] + ["cat"]) for i in range(4)]
identities = [detector.identity() for detector in fitted]

def start(work):
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        except BundleError as error:
            print(error, file=sys.stderr)
        finally:
            os._exit(status)
    return child

def ended_well(children):
    return all([os.waitpid(each, 0)[1] == 0 for each in children])

def save_for_a_while(mine, seconds=0.8):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for detector in mine:
            detector.save(path)

def load_for_a_while(seconds=0.8):
    end, seen = time.monotonic() + seconds, set()
    while time.monotonic() < end:
        seen.add(load_detector(path, encoder=encoder).identity())
    assert seen <= set(identities) and len(seen) > 1, seen
"""

TWO_SAVERS_AND_TWO_READERS = """
fitted[0].save(path)
savers = [start(lambda mine=mine: save_for_a_while(mine)) for mine in (fitted[:2], fitted[2:])]
assert ended_well([*savers, start(load_for_a_while), start(load_for_a_while)])
assert load_detector(path, encoder=encoder).identity() in identities
"""

FOUR_FIRST_SAVES_AT_ONCE = """
import shutil
for _ in range(10):
    assert ended_well([start(lambda one=one: one.save(path)) for one in fitted])
    assert load_detector(path, encoder=encoder).identity() in identities
    assert len(os.listdir(path)) == 2
    shutil.rmtree(path)
fitted[0].save(path)
"""

KILLED_WHILE_OTHERS_SAVE_AND_READ = """
rng = random.Random(1)
fitted[0].save(path)
others = [start(lambda: save_for_a_while(fitted[:2])), start(load_for_a_while)]
for kill in range(15):
    victim = start(lambda: save_for_a_while(fitted[2:]))
    time.sleep(rng.random() * 0.05)
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    assert load_detector(path, encoder=encoder).identity() in identities
assert ended_well(others)
"""


@pytest.mark.parametrize(
    "script",
    [TWO_SAVERS_AND_TWO_READERS, FOUR_FIRST_SAVES_AT_ONCE, KILLED_WHILE_OTHERS_SAVE_AND_READ],
    ids=["savers and readers", "first saves", "killed savers"],
)
def test_processes(script: str, builtin_encoder: CLIPEncoder, tmp_path: Path) -> None:
    path = tmp_path / "d"
    done = subprocess.run(
        [sys.executable, "-c", COMMON + script, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # What killed processes left is gone after the next save.
    detector = MCM(builtin_encoder).fit(["cat", "dog"])
    detector.save(path)
    assert load_detector(path, encoder=builtin_encoder).identity() == detector.identity()
    assert len(list(path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_threads(builtin_encoder: CLIPEncoder, tmp_path: Path) -> None:
    detectors = [MCM(builtin_encoder).fit([f"name {i}", "cat"]) for i in range(4)]
    errors: list[BaseException] = []

    def save(detector: MCM) -> None:
        try:
            for _ in range(20):
                detector.save(tmp_path / "d")
                load_detector(tmp_path / "d", encoder=builtin_encoder)
        except BundleError as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(each,)) for each in detectors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list((tmp_path / "d").iterdir())) == 2


def test_where_directories_cannot_be_locked(
    builtin_encoder: CLIPEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then old files stay for an hour, for those who may be reading them."""
    monkeypatch.setattr("negrefine.files.lock.fcntl", None)
    path = tmp_path / "d"
    MCM(builtin_encoder).fit(["cat", "dog"]).save(path)
    (first,) = path.glob("features-*")
    second = MCM(builtin_encoder).fit(["cat", "cow"])
    second.save(path)
    assert first.exists()
    assert load_detector(path, encoder=builtin_encoder).identity() == second.identity()
    os.utime(first, (0, 0))
    second.save(path)
    assert not first.exists()
    assert load_detector(path, encoder=builtin_encoder).identity() == second.identity()


def test_a_writer_that_does_not_end(
    builtin_encoder: CLIPEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("negrefine.files.lock._WAIT_SECONDS", 0.1)
    path = tmp_path / "d"
    detector = MCM(builtin_encoder).fit(["cat", "dog"])
    detector.save(path)
    with lock_directory(path):
        assert load_detector(path, encoder=builtin_encoder).identity() == detector.identity()
        with pytest.raises(BundleError, match=r"another process has been writing there for 0\.1 s"):
            detector.save(path)
    detector.save(path)


def test_only_the_version_that_was_loaded_is_replaced(
    builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    path = tmp_path / "d"
    detector = MCM(builtin_encoder).fit(["cat", "dog"])
    detector.save(path)
    version = version_of(path)
    # The same detector again is the same version.
    detector.save(path)
    detector.offset_ = 0.5
    detector.save(path, replacing=version)
    assert load_detector(path, encoder=builtin_encoder).offset_ == 0.5
    detector.offset_ = 0.25
    with pytest.raises(BundleError, match="was replaced by another process meanwhile, so it was"):
        detector.save(path, replacing=version)
    assert load_detector(path, encoder=builtin_encoder).offset_ == 0.5


def test_a_folder_in_place_of_an_old_file_keeps_nobody_from_saving(
    builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    path = tmp_path / "d"
    detector = MCM(builtin_encoder).fit(["cat", "dog"])
    detector.save(path)
    (path / "features-0123456789ab.safetensors").mkdir()
    detector.save(path)
    assert load_detector(path, encoder=builtin_encoder).identity() == detector.identity()


# --------------------------------------------------------------------- what is no regular file


def _pipe(file: Path) -> None:
    os.mkfifo(file)


def _device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def _socket(file: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(file))


def _endless(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(1 << 40)


def _loop(file: Path) -> None:
    file.symlink_to(file)


@pytest.mark.parametrize("name", ["detector.json", "features-*", "negative_labels-*"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_pipe, "it is a named pipe, not a regular file"),
        (_device, "it is a device, not a regular file"),
        (_socket, "it is a socket, not a regular file"),
        (_endless, "it is larger than"),
        (_loop, "cannot be read"),
    ],
)
def test_what_is_no_file_is_not_waited_for(
    name: str,
    make: object,
    said: str,
    detectors: dict[str, MCM],
    builtin_encoder: CLIPEncoder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    detectors["csp"].save(tmp_path / "d")
    # The names of sockets must be short.
    monkeypatch.chdir(tmp_path / "d")
    (file,) = (tmp_path / "d").glob(name)
    file.unlink()
    make(Path(file.name))  # type: ignore[operator]
    with pytest.raises(BundleError, match=said) as caught:
        load_detector(tmp_path / "d", encoder=builtin_encoder)
    assert str(caught.value).startswith(f"The saved detector in {str(tmp_path / 'd')!r} is damaged")
    assert file.name in str(caught.value)
    if name == "detector.json":
        with pytest.raises(BundleError, match=r"is not a saved detector|Too many levels"):
            detectors["csp"].save(tmp_path / "d")
    else:
        detectors["csp"].save(tmp_path / "d")
        load_detector(tmp_path / "d", encoder=builtin_encoder)


def test_links_are_followed(builtin_encoder: CLIPEncoder, tmp_path: Path) -> None:
    """Data stores such as DVC put links in place of files."""
    detector = MCM(builtin_encoder).fit(["cat", "dog"])
    detector.save(tmp_path / "d")
    shutil.move(tmp_path / "d", tmp_path / "store")
    (tmp_path / "d").mkdir()
    for file in (tmp_path / "store").iterdir():
        (tmp_path / "d" / file.name).symlink_to(file)
    assert load_detector(tmp_path / "d", builtin_encoder).identity() == detector.identity()
    assert json.loads((tmp_path / "d" / "detector.json").read_text())["method"] == "mcm"
