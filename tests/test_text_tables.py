"""Tables as text."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from negrefine.text_tables import console_table, latex_text, markdown_table, markdown_text


def printed(*arguments: object, **options: object) -> list[str]:
    stream = StringIO()
    table = console_table(*arguments, **options)  # type: ignore[arg-type]
    Console(file=stream, width=60).print(table)
    return stream.getvalue().splitlines()


def test_nothing_is_read_as_markup_and_numbers_stand_at_the_right() -> None:
    rows = [["a [red]b", "1.0", "1.00 ±0.10"], ["c", "12.5", "-"]]
    lines = printed(["name [b]", "n", "x"], rows, title="[bold]T", caption="[/]")
    text = "\n".join(lines)
    assert "[bold]T" in lines[0]
    assert "[/]" in lines[-1]
    assert "name [b]" in text
    assert "│ a [red]b │  1.0 │ 1.00 ±0.10 │" in lines
    assert "│ c        │ 12.5 │          - │" in lines


def test_sections_end_with_a_line() -> None:
    lines = printed(["n"], [["1"], ["2"], ["3"]], sections=[1])
    places = [i for i, line in enumerate(lines) if line.startswith("├")]
    assert len(places) == 1
    assert "2" in lines[places[0] - 1]


def test_markdown() -> None:
    table = markdown_table(["a|b", "n"], [["x|y", "**1.0** ± 0.1 [0.9, 1.1]"], ["z", "2"]])
    assert table == (
        "| a\\|b | n |\n| --- | ---: |\n| x\\|y | **1.0** ± 0.1 [0.9, 1.1] |\n| z | 2 |\n"
    )


def test_cells_are_on_one_line_and_nothing_in_them_is_obeyed() -> None:
    hostile = "x\x1b[2J\x07\n\u202e\u200b\x9b"
    (title, *_, row, _, caption) = printed(["n"], [[hostile]], title=hostile, caption=hostile)
    shown = r"x\x1b[2J\x07\x0a\u202e\u200b\x9b"
    assert title.strip() == caption.strip() == shown
    assert row == f"│ {shown} │"
    assert markdown_table(["n"], [[hostile]]).splitlines()[2] == f"| {shown} |"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NegFilter + S_MM, alpha = 1", "NegFilter + S_MM, alpha = 1"),
        ("50 % of a & b (C:\\new)", "50 % of a & b (C:\\new)"),
        ("![x](http://a.org/b.png)", r"!\[x\](http\://a.org/b.png)"),
        ("<script>&lt;</script>", "&lt;script>&amp;lt;&lt;/script>"),
        ("`a` *b* _c_ __d__ ~~e~~ $f$", r"\`a\` \*b\* \_c\_ \_\_d\_\_ \~\~e\~\~ \$f\$"),
        ("a|b\\|c\\", "a\\|b\\\\\\|c\\\\"),
        ("www.evil.org https://evil.org", r"www\.evil.org https\://evil.org"),
        ("a\nb\r# c", r"a\x0ab\x0d# c"),
    ],
)
def test_text_in_markdown_is_nothing_but_text(text: str, expected: str) -> None:
    assert markdown_text(text) == expected
    # A table takes it as it is, in one cell.
    assert markdown_table(["n"], [[expected]]).splitlines()[2] == f"| {expected} |"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("S_MM 50 % & #1 {a} $x$", r"S\_MM 50 \% \& \#1 \{a\} \$x\$"),
        ("\\input{x}~^", r"\textbackslash{}input\{x\}\textasciitilde{}\textasciicircum{}"),
        ("[1em]*|<>", r"{[}1em{]}{*}\textbar{}\textless{}\textgreater{}"),
        ("a\n%\x1b", r"a\textbackslash{}x0a\%\textbackslash{}x1b"),
    ],
)
def test_text_in_latex_is_nothing_but_text(text: str, expected: str) -> None:
    assert latex_text(text) == expected
