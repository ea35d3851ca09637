"""Class lists in the formats in which people have them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from negrefine.cli.options import WordLists
from negrefine.errors import InputError
from negrefine.labels.class_names import check_class_names, read_class_names

QUIET = {
    "plain.txt": (
        "C#\nRock, paper\n\n0-day\n 3 musketeers \n",
        "C#|Rock, paper|0-day|3 musketeers",
    ),
    "list.json": ('["cat", "dog",\n "horse"]', "cat|dog|horse"),
    "json.txt": ('{"0": "cat", "2": "owl", "1": "dog"}', "cat|dog|owl"),
    "ten.json": ("{" + ", ".join(f'"{i}": "c{i}"' for i in (10, 9, 2)) + "}", "c2|c9|c10"),
    "index.json": ('{"dog": 1, "cat": 0}', "cat|dog"),
    "config.json": (
        '{"model_type": "vit", "id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0}}',
        "cat|dog",
    ),
    "label2id.json": ('{"label2id": {"dog": 1, "cat": 0}}', "cat|dog"),
    "coco.json": ('{"images": [], "categories": [{"id": 1, "name": "cat"}]}', "cat"),
    "objects.jsonl": ('{"id": 0, "name": "cat"}\n{"id": 1, "name": "dog"}\n', "cat|dog"),
    "strings.jsonl": ('"cat"\n"dog"\n', "cat|dog"),
    "data.yaml": ("path: ../data\nnames:\n  0: cat\n  1: dog\n", "cat|dog"),
    "block.yml": ("names:\n- cat\n- dog\n", "cat|dog"),
    "flow.yaml": ("nc: 2\nnames: [cat, 'dog']\n", "cat|dog"),
    "list.yaml": ("- cat\n- dog\n", "cat|dog"),
    "one-column.csv": ("name\ncat\ndog\n", "cat|dog"),
    "no-header.csv": ('cat\n"dog, small"\n', "cat|dog, small"),
}


@pytest.mark.parametrize("name", QUIET)
def test_what_is_unambiguous_is_read(tmp_path: Path, name: str) -> None:
    content, names = QUIET[name]
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_class_names(tmp_path / name) == names.split("|")


SAID = {
    "imagenet_class_index.json": (
        '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}',
        "tench|goldfish",
        "read as 2 names, the first 'tench': the WordNet ids before the names were left out",
    ),
    "two-fields.json": ('[{"label": "7", "name": "cat"}]', "cat", "'name' was read, not 'label'"),
    "python.txt": ("[\"cat\", 'dog']", "cat|dog", "a value in Python's notation"),
    "lines.txt": (
        "[\n  'cat',\n  'bird\\'s nest',\n]\n",
        "cat|bird's nest",
        "in Python's notation",
    ),
    "clsidx_to_labels.txt": (
        "{0: 'tench, Tinca tinca',\n 1: \"goldfish\"}",
        "tench, Tinca tinca|goldfish",
        "in Python's notation",
    ),
    "constant.txt": ("CLASSES = ('cat', 'dog')\n", "cat|dog", "in Python's notation"),
    "ids.txt": ("[('n01440764', 'tench')]", "tench", "notation; the WordNet ids before"),
    "bullets.txt": ("- cat\n- dog\n", "cat|dog", "the bullets before the names"),
    "semicolons.csv": ("id;name\n0;cat\n1;dog\n", "cat|dog", "the column 'name' was read"),
    "comments.txt": ("# animals\ncat\n#end\ndog\n", "cat|dog", "2 lines that begin with '#'"),
    "table.csv": ("id,name\n0,cat\n1,dog\n", "cat|dog", "the column 'name' was read"),
    "table.tsv": ("label\tname\n0\tcat\n", "cat", "the column 'name' was read"),
    "pairs.csv": ("0,cat\n1,dog\n", "cat|dog", "the second column was read"),
    "numbers.txt": ("0 cat\n1 dog\n", "cat|dog", "numbers before the names"),
    "counted.txt": ("1. cat\n2. dog\n", "cat|dog", "numbers before the names"),
    "counted-after.txt": ("cat 0\ndog 1\n", "cat|dog", "numbers after the names"),
    "label-map.txt": ("cat: 1\npolar bear: 2\n", "cat|polar bear", "numbers after the names"),
    "assigned.txt": ("cat=0\ndog=1\n", "cat|dog", "numbers after the names"),
    "heading.txt": ("Name\ncat\n", "Name|cat", "the first line counts as a name too"),
    "synsets.txt": ("n01440764 tench\nn01443537 gold fish\n", "tench|gold fish", "WordNet ids"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_was_interpreted_is_said(tmp_path: Path, name: str) -> None:
    content, names, note = SAID[name]
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.warns(UserWarning, match=note):
        assert read_class_names(tmp_path / name) == names.split("|")


REFUSED = {
    "page.txt": ("\n<!DOCTYPE html>\n<html>cat</html>\n", "holds a web page or XML"),
    "page.json": ("<html><body>", "holds a web page or XML"),
    "page.csv": ("<?xml version='1.0'?>\n", "holds a web page or XML"),
    "fragment.txt": ("<li>cat</li>\n<li>dog</li>\n", "the tags of a web page or XML"),
    "pointer.txt": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "a pointer of Git LFS",
    ),
    "rich.txt": ("{\\rtf1\\ansi cat\\\ndog}", "rich text"),
    "missing.txt": ("404: Not Found", "the file was not found"),
    "bare.txt": ("[cat, dog]", "neither JSON nor Python"),
    "cut.txt": ("classes = ['cat',", "looks like a program"),
    "set.txt": ("{'cat', 'dog'}", "holds a value of type set, not a list"),
    "call.txt": ("[open('x'), 'cat']", "neither JSON nor Python"),
    "table.txt": ("id,name\n0,cat\n1,dog\n", "looks like a table"),
    "quotes.txt": ('"cat",\n"dog"\n', "quotes around its lines"),
    "wide.txt": ("c\0a\0t\0", "is not text, or UTF-16 without a mark"),
    "broken.json": ('["cat", ', "is not JSON"),
    "broken.yaml": ("names: [cat", "is not YAML"),
    "broken.jsonl": ('"cat"\ndog\n', "is not JSON lines"),
    "numbers.json": ("[1, 2]", "Entry 0 .* is 1, from which no name"),
    "booleans.yaml": ("names: [yes, no]", "Entry 0 .* is True"),
    "nested.json": ('{"animals": ["cat"], "plants": ["oak"]}', "does not say which"),
    "twice.json": ('{"cat": 0, "dog": 0}', "several names one number"),
    "scalar.json": ('"cat"', "holds a value of type str"),
    "columns.csv": ("file,kind\na.png,cat\n", "none is called 'name'"),
    "gap.csv": ("id,name\n0,cat\n1,\n", "Row 3 .* has no 'name'"),
    "line.txt": ("cat, dog, horse\n", "one line with commas"),
    "yaml.txt": ("names:\n- cat\n", "looks like YAML"),
    "tabs.txt": ("0\tcat\t5\nx\tdog\t6\n", "a table with tabs"),
    "empty.json": ("[]", "is empty"),
    "only-comments.txt": ("# nothing\n", "holds only lines that begin with '#'"),
    "map.pbtxt": ('item {\n  id: 1\n  name: "cat"\n}\n', "blocks in braces"),
    "bars.txt": ("cat|animal\ndog|animal\n", "a table with vertical bars"),
    "semicolons.txt": ("cat;dog\n", "a table with semicolons"),
    "tab.txt": ("cat\tdog\n", "a table with tabs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_ambiguous_is_refused(tmp_path: Path, name: str) -> None:
    content, problem = REFUSED[name]
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=problem):
        read_class_names(tmp_path / name)


def test_names_in_other_containers() -> None:
    names = check_class_names(np.array(["cat", "dog"]))
    assert names == ["cat", "dog"]
    assert {type(name) for name in names} == {str}
    assert check_class_names(name for name in ("cat", "dog")) == names
    with pytest.raises(InputError, match="not a set, whose items have no order"):
        check_class_names({"cat", "dog"})
    with pytest.raises(InputError, match=r"not 'names\.txt': \S+read_class_names reads those"):
        check_class_names("names.txt")


def test_a_url_is_not_fetched() -> None:
    with pytest.raises(InputError, match=r"list 'https://a\.b/c\.txt' is a URL, and URLs are not"):
        read_class_names("https://a.b/c.txt")


def test_a_picture_is_no_class_list(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 1, 1)).save(tmp_path / "cat.png")
    with pytest.raises(InputError, match=r"cat.png' is not text: give a text file"):
        read_class_names(tmp_path / "cat.png")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "names.txt").write_bytes("Bär\r\nchat\r\n".encode(encoding))
    assert read_class_names(tmp_path / "names.txt") == ["Bär", "chat"]


def test_underscores(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("tabby_cat\ndog\n")
    assert read_class_names(tmp_path / "names.txt") == ["tabby_cat", "dog"]
    spaced = read_class_names(tmp_path / "names.txt", underscores_as_spaces=True)
    assert spaced == ["tabby cat", "dog"]
    assert check_class_names(spaced) == spaced


@pytest.mark.parametrize(
    ("names", "doubt"),
    [
        (["tabby_cat", "dog"], "1 class names hold underscores, 'tabby_cat' first: .*'tabby cat'"),
        (["0", "1", "dog"], "2 class names are numbers or WordNet ids, '0' first"),
        (["n01440764", "dog"], "1 class names are numbers or WordNet ids"),
        (
            ["golden-retriever", "dog"],
            "1 class names are words joined by hyphens, 'golden-ret.* write 'golden retriever'",
        ),
        (
            ["GoldenRetriever", "tabbyCat", "white owl"],
            "2 class names are words joined by capitals, 'GoldenR.* write 'golden retriever'",
        ),
        (["dog", "a" * 81], "1 class names are longer than 80 characters, 'a{40}...' first"),
        (["cat.JPG", "img2.png 1", "St. Bernard"], "2 class names end like image files"),
        (["Turkey", "turkey", "dog"], "2 class names differ from another only in case"),
        (["cat", "cat ", "hot  dog", "Hot dog"], "4 class names differ .* only in case or spaces"),
    ],
)
def test_doubtful_names_are_kept_with_a_warning(names: list[str], doubt: str) -> None:
    with pytest.warns(UserWarning, match=doubt) as caught:
        assert check_class_names(names) == names
    assert len(caught) == 1


@pytest.mark.parametrize(
    "names",
    [
        ["great white shark", "T-shirt", "Boeing 747"],
        ["half-track", "great white shark"],
        ["iPhone", "X-ray", "McLaren", "jack-o'-lantern", "MacBook"],
    ],
)
def test_good_names_give_no_warning(names: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_class_names(names) == names


@pytest.mark.parametrize("name", ["gap.json", "gap.txt", "gap.csv"])
def test_sentences_begin_with_a_capital_and_name_the_file_within(tmp_path: Path, name: str) -> None:
    content = {".json": "[1]", ".txt": "cat, dog, horse\n", ".csv": "id,name\n0,\n"}
    (tmp_path / name).write_text(content[name[3:]], encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_class_names(tmp_path / name)
    said = str(caught.value)
    assert said[0].isupper()
    assert f"{'T' if said.startswith('The') else 't'}he class list '{tmp_path / name}'" in said
    assert "of The" not in said


def test_other_lists_are_called_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "keep.txt").touch()
    with pytest.raises(InputError, match=r"The list of words to keep .* one word per line"):
        WordLists(keep=tmp_path / "keep.txt", drop=None).given()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "names.json").symlink_to("pipe.txt")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name, what in (("pipe.txt", "pipe"), ("names.json", "pipe"), ("zero.csv", "device")):
        with pytest.raises(InputError, match=rf"{name}' is a .*{what}, not a regular file"):
            read_class_names(tmp_path / name)
