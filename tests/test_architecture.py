"""The rooms of the package: imports point one way, and files stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import negrefine

PACKAGE = Path(negrefine.__file__).parent
# A room may import those to its left; the rooms of one entry do not import each other.
ROOMS = (
    ("lazy_names", "shown_text"),
    ("errors",),
    (
        "connections",
        "constraints",
        "key_mask",
        "notebook_html",
        "progress",
        "real_arrays",
        "similar_names",
        "text_tables",
    ),
    ("files", "metrics"),
    ("pretrained",),
    ("encoders",),
    ("sources",),
    ("labels",),
    ("judges",),
    ("proposers",),
    ("detectors",),
    ("monitoring", "streaming"),
    ("evaluation",),
    ("benchmarks",),
    ("report",),
    ("serving",),
    ("adapters", "demo"),
    ("cli",),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}


def modules() -> Iterator[tuple[str, str, ast.Module]]:
    """Yield room, path and tree of every module but the package's own list of public names."""
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if relative.as_posix() != "__init__.py":
            room = relative.parts[0].removesuffix(".py")
            yield room, relative.as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the rooms of negrefine that a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "negrefine":
            yield from (alias.name for alias in node.names)
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("negrefine."))


def test_imports_point_one_way() -> None:
    seen = set()
    for room, path, tree in modules():
        for other in imported(tree):
            seen.add((room, other))
            assert other == room or RANK[other] < RANK[room], f"{path} imports {other}"
    assert ("detectors", "judges") in seen
    assert ("cli", "detectors") in seen


def test_every_room_has_its_place() -> None:
    assert {room for room, _, _ in modules()} == set(RANK)


def test_modules_of_a_room_import_each_other_without_circles() -> None:
    edges: dict[str, set[str]] = {}
    for _, path, tree in modules():
        name = "negrefine." + path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        # What is imported at the head of a module; type checking alone makes no circle.
        heads = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        edges[name] = {node.module or "" for node in heads}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in sorted(edges.get(name, ())):
                visit(other, (*above, name))
            done.add(name)

    for name in edges:
        visit(name, ())
    assert len(done) > 100


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {
        path: len((PACKAGE / path).read_text(encoding="utf-8").splitlines())
        for _, path, _ in modules()
    }
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_files_of_the_package_share_few_names_that_say_nothing() -> None:
    names = {Path(path).stem for _, path, _ in modules()}
    assert not names & {"utils", "util", "helpers", "helper", "misc", "common"}


def test_nothing_prints_but_the_module_that_shows_what_others_have_named() -> None:
    printing = {
        path
        for _, path, tree in modules()
        for node in ast.walk(tree)
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in {"print", "typer.echo", "typer.secho", "Console"}
        )
        or (
            isinstance(node, ast.Attribute)
            and ast.unparse(node) in {"sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer"}
        )
    }
    assert printing == {"cli/output.py", "progress.py"}
