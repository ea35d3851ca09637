"""Files that are replaced as a whole: what killed processes leave, and what is never replaced."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from negrefine.cli.output import print_rows
from negrefine.errors import InputError
from negrefine.files.writing import check_target, write_rows, write_text

_KILLED = """
import os, signal, sys
from pathlib import Path
from negrefine.files.writing import write_atomically

def write(file):
    file.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()

write_atomically(Path(sys.argv[1]), write)
"""


def start_writing(target: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("name", ["a.csv", "b [1]*.csv", "x" * 251 + ".csv"])
def test_the_next_writer_removes_what_a_killed_one_left(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    (tmp_path / f".{name[:200]}.original").mkdir()
    mine = {path.name for path in tmp_path.iterdir()}
    with start_writing(target) as living, start_writing(target) as killed:
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.iterdir())) == 3
        write_rows(target, [{"word": "a"}], {"word": "string"})
        # The folder of a process that lives stays, and it replaces the file in turn.
        assert len(list(tmp_path.iterdir())) == 3
        living.communicate()
    assert living.returncode == 0
    assert target.read_text() == "half"
    assert {path.name for path in tmp_path.iterdir()} == {*mine, name}


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    texts = [f"{number} " * 500 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: [write_text(target, text) for _ in range(30)], texts))
    assert target.read_text() in texts
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_pipes_and_devices_are_not_replaced(tmp_path: Path) -> None:
    pipe, null = tmp_path / "pipe.csv", tmp_path / "null.csv"
    os.mkfifo(pipe)
    null.symlink_to("/dev/null")
    for path, what in ((pipe, "named pipe"), (null, "device")):
        sentence = rf"cannot be written to .*{path.name}': it is a {what}, not a regular file"
        with pytest.raises(InputError, match=sentence):
            check_target(path, ["word"])
        with pytest.raises(InputError, match=sentence):
            write_rows(path, [{"word": "a"}], {"word": "string"})
        with pytest.raises(InputError, match=sentence):
            write_text(path, "a")
    assert pipe.is_fifo()
    assert null.is_symlink()


def test_csv_in_a_file_looks_like_csv_that_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = {"path": "string", "score": "double", "n": "int64", "error": "string"}
    rows = [
        {"path": "a.png", "score": 2.9990476052146158, "n": 3, "error": None},
        {"path": 'b, "c".png', "score": 3.0, "n": None, "error": "=1+1"},
        {"path": "grün\r.png", "score": None, "n": 1, "error": "no image"},
    ]
    write_rows(tmp_path / "rows.csv", rows, schema)
    wanted = (
        "path,score,n,error\na.png,2.9990476052146158,3,\n"
        '"b, ""c"".png",3.0,,\'=1+1\n"grün\r.png",,1,no image\n'
    )
    assert (tmp_path / "rows.csv").read_bytes() == wanted.encode()
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == [row["path"] for row in rows]
    # A terminal is not sent a "\r".
    wanted = wanted.replace('"grün\r.png"', r"grün\x0d.png")
    print_rows(list(schema), [list(row.values()) for row in rows], ",")
    assert capsys.readouterr().out == wanted
