"""Tables as text."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from negrefine.text_tables import console_table, markdown_table


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
