"""Files that anybody may have written: bounds on size, depth and numbers, and no waiting."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import pytest

from negrefine import Lexicon, Prompts
from negrefine.errors import InputError
from negrefine.evaluation.results import read_manifest
from negrefine.files.reading import MAX_DEPTH, TEXT_BYTES, parse_json, read_bytes, read_json
from negrefine.judges.replay import ReplayJudge
from negrefine.judges.store import read_json_lines
from negrefine.labels.class_names import read_class_names

REFUSED = [
    (b"[" * 200_000, "nested more than 64 levels"),
    (b"[" * 200_000 + b"]" * 200_000, "nested more than 64 levels"),
    (b'{"a":' * 700 + b"1" + b"}" * 700, "nested more than 64 levels"),
    (b"[" * 65 + b"]" * 65, "nested more than 64 levels"),
    (b"9" * 5000, "a number of 5000 digits"),
    (b'{"names": ' + b"1" * 400 + b"}", "a number of 400 digits"),
    (b"[NaN]", "NaN, which is no number"),
    (b"[-Infinity]", "-Infinity, which is no number"),
    (b"[1e400]", "1e400, which is too large"),
    (b'{"class_name": ["a {}"], "class_name": ["b {}"]}', "the key 'class_name' twice"),
    (b'["\\ud800"]', "half of a character"),
    (b'{"a": ', "Expecting value"),
]


@pytest.mark.parametrize(("content", "said"), REFUSED)
def test_json_that_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_json(content)
    with pytest.raises(ValueError, match=said):
        parse_json(content.decode())
    for folder, name in ((tmp_path, "p.json"), (tmp_path / "e", "evaluation.json")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        Prompts.from_json(tmp_path / "p.json")
    assert str(caught.value).startswith(f"The prompts {str(tmp_path / 'p.json')!r} cannot be read")
    with pytest.raises(InputError, match=said) as caught:
        read_class_names(tmp_path / "p.json")
    assert str(caught.value).startswith(f"The class list {str(tmp_path / 'p.json')!r} is not JSON")
    with pytest.raises(InputError, match=said) as caught:
        read_manifest(tmp_path / "e")
    assert str(tmp_path / "e" / "evaluation.json") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"), [each for each in REFUSED[:-1] if each[0].startswith((b"[", b"{"))]
)
def test_class_lists_in_text_files(tmp_path: Path, content: bytes, said: str) -> None:
    """JSON in a file of another name is no list of lines because it is refused."""
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_class_names(tmp_path / "names.txt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names:\n  - dog\nnames:\n  - cat\n", "the key 'names' twice"),
        ("0: dog\n1: cat\n0: cow\n", "the key '0' twice"),
        ("[" * 5000, "nested too deeply"),
        ("- " + "9" * 5000, "digits|integer"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x]\n"
            + "".join(
                f"{n}: &{n} [{', '.join([f'*{before}'] * 9)}]\n"
                for before, n in zip("abcdefgh", "bcdefghi", strict=True)
            )
            + "names: [*i]\n",
            "Entry 0 of .* from which no name can be told",
        ),
    ],
)
def test_yaml_that_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "names.yaml").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_class_names(tmp_path / "names.yaml")
    assert len(str(caught.value)) < 600


def test_yaml_with_merged_keys_is_read(tmp_path: Path) -> None:
    (tmp_path / "names.yaml").write_text("x: &x {a: 1}\nnames: [dog, cat]\n<<: *x\n<<: *x\n")
    assert read_class_names(tmp_path / "names.yaml") == ["dog", "cat"]


def test_json_that_is_read(tmp_path: Path) -> None:
    content = {"a": [1, -2.5, True, None, "\N{FOX FACE}", "[" * 100], "b": {"c": 10**299}}
    for text in (json.dumps(content), json.dumps(content, ensure_ascii=False)):
        assert parse_json(text) == parse_json(text.encode()) == content
        (tmp_path / "a.json").write_text("\ufeff" + text, encoding="utf-8")
        assert read_json(tmp_path / "a.json") == content
    deep = "[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH
    assert parse_json(deep) == json.loads(deep)
    wide = "[" + "[]," * 100_000 + "[]]"
    assert parse_json(wide) == json.loads(wide)


def test_sizes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"[1]")
    assert read_bytes(tmp_path / "a", 3) == b"[1]"
    assert read_json(tmp_path / "a", 3) == [1]
    with pytest.raises(ValueError, match="it is larger than"):
        read_bytes(tmp_path / "a", 2)
    with (tmp_path / "endless.json").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(InputError, match="it is larger than 64 MiB"):
        Prompts.from_json(tmp_path / "endless.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "evaluation.json")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="it is a named pipe, not a regular file"):
        Prompts.from_json(tmp_path / "evaluation.json")
    with pytest.raises(InputError, match="it is a named pipe, not a regular file"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match="it is a device, not a regular file"):
        Prompts.from_json(tmp_path / "zero")
    with pytest.raises(InputError, match="it is a folder, not a regular file"):
        Prompts.from_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "missing", 1)


def test_packed_files_that_unpack_to_far_more_are_refused(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b"\n" * (1 << 20)
    packed = b"".join(packer.compress(block) for _ in range((TEXT_BYTES >> 20) + 1))
    (tmp_path / "bomb.gz").write_bytes(packed + packer.flush())
    assert (tmp_path / "bomb.gz").stat().st_size < 1 << 20
    for read in (read_class_names, Lexicon.from_tsv, ReplayJudge, read_json_lines):
        with pytest.raises(
            InputError, match=r"bomb\.gz' cannot be read.*256 MiB when it is unpack"
        ):
            read(tmp_path / "bomb.gz")
    with (tmp_path / "sparse.txt").open("wb") as stream:
        stream.truncate(TEXT_BYTES + 1)
    for read in (read_class_names, Lexicon.from_tsv, ReplayJudge, read_json_lines):
        with pytest.raises(InputError, match=r"sparse\.txt' cannot be read.*larger than 256 MiB"):
            read(tmp_path / "sparse.txt")


def test_lists_in_the_notation_of_python_have_a_bound(tmp_path: Path) -> None:
    """Python's parser would take gigabytes for a file that JSON reads in a hundredth of that."""
    (tmp_path / "classes.py").write_text("names = [" + "'a'," * (1 << 20) + "]")
    with pytest.raises(InputError, match="in Python's notation of more than 2 MiB: give a text"):
        read_class_names(tmp_path / "classes.py")
