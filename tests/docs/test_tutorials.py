"""The tutorials: their commands run, and print what the pages say."""

from __future__ import annotations

import csv
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from commands import Done
from docs.conftest import DOCS
from judges.chat_server import Server as ChatServer
from judges.chat_server import message
from negrefine import load_detector
from serving.processes import Server, Zygote, wait_until
from transcripts import Reader, assert_printed, blocks

TUTORIALS = DOCS / "tutorials"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
Start = Callable[..., Reader]
PROPER_NOUNS = {"vientiane", "dallas", "laos"}


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    """A language model that knows three proper nouns and no subcategory."""
    server = ChatServer()

    def reply(question: str, _: Any) -> dict[str, Any]:
        known = "proper noun" in question and any(f"'{word}'" in question for word in PROPER_NOUNS)
        return message("Yes" if known else "No")

    server.reply = reply
    yield server
    server.close()


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("servers"))
    yield zygote
    zygote.close()


def test_a_page_that_is_wrong_fails(reader: Start, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint('0.5001 a')\n```\n\n```text\n0.5000 a\n```\n")
    assert len(reader().read(page)) == 1
    for wrong in ("0.6000 a", "0.5001 b", "0.5001 a\nmore", "other\n0.5001 a"):
        page.write_text(f"```python\nprint('0.5001 a')\n```\n```text\n{wrong}\n```\n")
        with pytest.raises(AssertionError, match=r"page\.md, line 1"):
            reader().read(page)
    for code in (
        "```bash\nfalse\n```\n",
        "```python\n1 / 0\n```\n",
        "```bash\nnegrefine no\n```\n",
    ):
        page.write_text(code)
        with pytest.raises(AssertionError, match=r"page\.md, line 1"):
            reader().read(page)


@pytest.mark.parametrize(
    "text",
    ["- a\n  ```bash\n  a\n  ```\n", "```sh\na\n```\n", "```python title\na\n```\n", "~~~bash\n"],
)
def test_a_block_that_would_never_run_fails(text: str) -> None:
    with pytest.raises(AssertionError, match="1 blocks begin and 0 can run"):
        blocks(text)


def test_blocks_are_found_with_their_output_and_the_reason_why_they_do_not_run() -> None:
    text = "```bash\na\n```\n\n```text\nout\n```\n\n<!-- not run: slow -->\n```bash\nb\n```\n"
    first, second = blocks(text)
    assert (first.code, first.output, first.line, first.reason) == ("a\n", "out\n", 1, None)
    assert (second.code, second.output, second.line, second.reason) == ("b\n", None, 10, "slow")
    assert_printed(["a", "...", "z … 1"], ["a", "b", "c", "z y 1"])
    with pytest.raises(AssertionError):
        assert_printed(["a", "...", "z"], ["a", "b"])


def test_every_page_has_blocks_that_run() -> None:
    pages = sorted(TUTORIALS.glob("*.md"))
    assert len(pages) == 7
    for page in pages:
        assert any(not block.reason for block in blocks(page.read_text(encoding="utf-8"))), page


def test_own_photos(reader: Start) -> None:
    typed = reader()
    assert len(typed.read(TUTORIALS / "own-photos.md")) == 4
    rows = list(csv.DictReader((typed.folder / "scores.csv").read_text("utf-8").splitlines()))
    assert len(rows) == len(list((typed.folder / "new").iterdir())) == 30
    assert {row["verdict"] for row in rows} == {"ID", "OOD"}
    assert (typed.folder / "page.html").stat().st_size > 10_000


def test_threshold(reader: Start) -> None:
    typed = reader()
    assert len(typed.read(TUTORIALS / "threshold.md")) == 6
    # What the page prints of the rates with delta is theirs.
    rates = typed.names["rates"]
    assert len(rates) == 1000
    assert rates.mean() < 0.05
    assert (rates > 0.1).mean() < 0.08


def test_compare(reader: Start) -> None:
    typed = reader()
    assert len(typed.read(TUTORIALS / "compare.md")) == 2
    assert (typed.folder / "results" / "report.html").is_file()


def test_llm_filter(reader: Start, chat: ChatServer) -> None:
    typed = reader(**{"http://localhost:11434/v1": chat.url})
    ran = typed.read(TUTORIALS / "llm-filter.md")
    assert len(ran) == 6
    questions = sum(chat.asked.values())
    assert 394 < questions < 394 * 2 + 30
    # Neither the second run nor the cascade asked a question twice.
    assert set(chat.asked.values()) == {1}
    removed = load_detector(typed.folder / "refined").negatives_
    assert removed is not None
    assert {label.text for label in removed.labels if label.removed_by} == PROPER_NOUNS


def test_serve(reader: Start, zygote: Zygote, quick: Any) -> None:
    typed = reader()
    servers: list[Server] = []

    def run(*arguments: str, cwd: Path) -> Done:
        if arguments[0] != "serve":
            return quick(*arguments, cwd=cwd)
        assert arguments[2:] == ("--port", "8000")
        servers.append(zygote.start(cwd / arguments[1]))
        servers[0].wait_until_ready()
        typed.replaced["http://127.0.0.1:8000/"] = servers[0].url
        return Done(0, "", "")

    typed.quick = run
    assert len(typed.read(TUTORIALS / "serve.md")) == 5
    assert (typed.folder / "card.png").read_bytes().startswith(b"\x89PNG")
    wait_until(lambda: abs(servers[0].ask("/v1/detector").json["threshold"] - 2.9072) < 1e-3)
    servers[0].signal(signal.SIGTERM)
    assert servers[0].wait() == 0


def test_ten_million(reader: Start) -> None:
    assert len(reader().read(TUTORIALS / "ten-million.md")) == 5
