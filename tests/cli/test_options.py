"""Which options commands have: bundles that they share, and those made from declared parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from negrefine.cli.app import app
from negrefine.cli.bundles import option, takes_bundles
from negrefine.cli.options import EncoderOptions
from negrefine.detectors import DETECTORS
from negrefine.detectors.parameters import declared_parameters
from negrefine.errors import InputError

JUDGE = {
    *("--judge", "--judge-url", "--judge-key", "--concurrency", "--max-tokens"),
    *("--request-fields", "--judge-mode", "--least-mass", "--answers"),
}


def options(*names: str) -> dict[str, Any]:
    """Return option to its declaration, for a command by its names."""
    command: Any = get_command(app)
    for name in names:
        command = command.get_command(None, name)
    return {text: each for each in command.params for text in (*each.opts, *each.secondary_opts)}


@pytest.mark.parametrize(
    "command",
    [("fit",), ("refine",), ("evaluate",), ("sweep",), ("benchmark", "run"), ("reproduce",)],
)
def test_every_command_with_a_judge_has_the_options_that_go_with_it(
    command: tuple[str, ...],
) -> None:
    assert set(options(*command)) >= JUDGE


@pytest.mark.parametrize("command", [("fit",), ("evaluate",), ("benchmark", "run")])
def test_every_command_that_fits_a_method_has_the_options_of_proposals(
    command: tuple[str, ...],
) -> None:
    assert set(options(*command)) >= {"--propose", "--n-proposed", "--proposal-kind"}


@pytest.mark.parametrize(
    "command", [("fit",), ("evaluate",), ("sweep",), ("benchmark", "run"), ("reproduce",)]
)
def test_every_command_that_makes_labels_has_their_options(command: tuple[str, ...]) -> None:
    wanted = {"--keep", "--drop", "--prompts", "--n-candidates", "--names-per-question"}
    assert set(options(*command)) >= {*wanted, "--wordnet-candidates"}


@pytest.mark.parametrize(
    "command", [("fit",), ("evaluate",), ("sweep",), ("benchmark", "run"), ("reproduce",)]
)
def test_every_command_that_loads_an_encoder_has_its_options(command: tuple[str, ...]) -> None:
    wanted = {
        *("--encoder", "--device", "--dtype", "--resample", "--cache", "--no-cache"),
        *("--background", "--exif-orientation", "--no-exif-orientation"),
    }
    assert set(options(*command)) >= {*wanted, "--lexicon", "--min-frequency", "--batch-size"}


def test_the_options_of_fit_are_the_declared_parameters() -> None:
    declared: dict[str, dict[str, Any]] = {}
    for method, cls in DETECTORS.items():
        for parameter in declared_parameters(cls).values():
            if parameter.on_command_line:
                declared.setdefault(parameter.option, {})[method] = parameter
    found = options("fit")
    not_parameters = {
        *("--classes", "--out", "--encoder", "--resample", "--cache", "--no-cache", "--device"),
        *("--dtype", "--batch-size", "--method", "--calibrate", "--fpr", "--prompts", "--keep"),
        *("--background", "--exif-orientation", "--no-exif-orientation"),
        *("--drop", "--lexicon", "--min-frequency", "--no-wordnet-candidates", "--help", "-h"),
        *("--underscores-as-spaces", "--delta", "--by", "--image-column", "--alpha-images"),
        "--propose",
    }
    assert set(found) - JUDGE - not_parameters == set(declared)
    for name, by_method in declared.items():
        for method, parameter in by_method.items():
            _, said, tail = found[name].help.partition(parameter.help)
            owners = re.split("[];]", tail)[0].strip(" [").split(", ")
            assert said
            assert method in (owners if tail else DETECTORS)
            assert tail or set(by_method) == set(DETECTORS)
    assert found["--alpha"].help.endswith("[negrefine; default: 2]")
    shown = "[negrefine, csp, neglabel, eoe; defaults: 1, 0.95, 0.95, 0.95]"
    assert found["--quantile"].help.endswith(shown)
    assert found["--group-fuse-num"].help.endswith("[negrefine, csp, neglabel; default: none]")
    assert set(declared) >= {"--alpha", "--k", "--temperature", "--rule", "--all-labels"}


def commands() -> list[tuple[str, ...]]:
    """Return the names of every command."""
    command: Any = get_command(app)
    names: list[tuple[str, ...]] = []
    for name in command.list_commands(None):
        below = getattr(command.get_command(None, name), "commands", None)
        names += [(name,)] if below is None else [(name, each) for each in below]
    assert len(names) == 31
    return names


def test_the_help_of_every_command_is_in_words() -> None:
    for name in commands():
        text = CliRunner().invoke(app, [*name, "--help"]).output
        assert f"Usage: negrefine {' '.join(name)} [OPTIONS]" in text
        assert not re.search(r"<\w|\{[A-Z]", text)
        assert "..." not in text.partition("\n")[2]
        for declared in options(*name).values():
            assert declared.name == "help" or declared.help.endswith((".", "]"))


def test_the_help_of_every_group_has_whole_summaries() -> None:
    root: Any = get_command(app)
    for group in ((), ("benchmark",), ("cache",), ("judge-cache",)):
        page = CliRunner().invoke(app, [*group, "--help"]).output
        assert "..." not in page.partition("\n")[2]
        assert not re.search("[<>]", page)
        members: Any = root
        for name in group:
            members = members.get_command(None, name)
        names = members.list_commands(None)
        for name, command in [(name, members.get_command(None, name)) for name in names]:
            summary = " ".join(command.help.split("\n\n")[0].split())
            assert re.search(rf"^  {name} ", page, re.MULTILINE)
            assert summary in " ".join(page.split())


# What an option of one name means in commands that need other words for it.
OTHER_WORDS = {
    "--out": {"DETECTOR_DIR", "ENCODER_DIR", "FILE", "DIR"},  # what is written differs
    "--ood": {"IMAGES", "NAME=IMAGES", "LIST"},
    "--encoder": {"ID_OR_DIR", "ENCODER"},  # of a detector, or of stored embeddings
    "--batch-size": {"NUMBER"},  # of `fit`, only that of --calibrate
    "--alpha": {"NUMBER", "CHANCE"},  # NegRefine's parameter, or of false alarms
    "--report": {"FILE.html", None},  # of scores, or the one of an evaluation or not
    "--judge": {"JUDGE", "TEXT"},  # of a filter, or of stored answers
    "results": {"RESULTS"},  # of scored images, or of evaluations
    "name": {"NAME", "[NAME]"},  # of a benchmark, or of an encoder
    "out": {"FILE"},  # stored embeddings, or stored answers
    "files": {"FILE"},
    "--id": {"IMAGES"},  # of any source, of files, or of judges that are compared
    "--calibrate": {"IMAGES"},  # of a detector, or of its exported score
    "--fpr": {"NUMBER"},
}


def test_an_option_means_the_same_in_every_command() -> None:
    found: dict[str, dict[tuple[str, str], str]] = {}
    for name in commands():
        for text, each in options(*name).items():
            # A sweep takes several values of the parameters that `fit` takes.
            words, is_list, _ = each.help.partition(" Values separated by commas; ")
            single = "NAME" if text == "--alpha-rule" else "NUMBER"
            metavar = single if is_list else each.metavar
            words = re.sub(r"; defaults?: [^]]*\]", "]", words)
            found.setdefault(text, {})[(metavar, words)] = " ".join(name)
    assert len(found) > 60
    for text, variants in found.items():
        if text in OTHER_WORDS:
            assert {metavar for metavar, _ in variants} == OTHER_WORDS[text]
        else:
            assert len(variants) == 1, (text, variants)


def test_the_methods_are_those_of_the_registry() -> None:
    for command, name in ((("fit",), "--method"), (("evaluate",), "--methods")):
        text = options(*command)[name].help
        assert all(method in text for method in DETECTORS)
    compared = ",".join(method for method, cls in DETECTORS.items() if cls.compared)
    for command in (("evaluate",), ("benchmark", "run"), ("reproduce",)):
        assert options(*command)["--methods"].default == compared
    assert compared == "mcm,glmcm,neglabel,csp,negrefine"


@dataclass(frozen=True, kw_only=True)
class Inner:
    number: int = option(3, "A number.", min=1)


@dataclass(frozen=True, kw_only=True)
class Outer:
    place: str = option(..., "Where.", "DIR", name="--where")
    inner: Inner


@takes_bundles
def show(
    *, outer: Outer, image: str = typer.Argument(help="An image."), much: bool = False
) -> None:
    """Show what was given."""
    typer.echo(f"{outer.place} {outer.inner.number} {image} {much}")


def test_a_command_takes_bundles_within_bundles() -> None:
    small = typer.Typer()
    small.command()(show)
    invoke = CliRunner().invoke
    assert invoke(small, ["a.png", "--where", "x"]).output == "x 3 a.png False\n"
    given = invoke(small, ["--number", "7", "--where", "y", "a.png", "--much"])
    assert given.output == "y 7 a.png True\n"
    assert invoke(small, ["a.png"]).exit_code == 2
    assert invoke(small, ["a.png", "--where", "x", "--number", "0"]).exit_code == 2


@pytest.mark.parametrize(
    ("given", "background", "upright"),
    [
        ({}, (255, 255, 255), True),
        ({"background": "none", "exif_orientation": False}, None, False),
        ({"background": "#0a0B0c"}, (10, 11, 12), True),
        ({"background": "Red"}, (255, 0, 0), True),
    ],
)
def test_pixels_of_a_new_encoder(given: dict[str, Any], background: Any, upright: bool) -> None:
    values = {"resample": None, "exif_orientation": None, "background": None, **given}
    options = EncoderOptions(encoder="builtin", cache=False, device="cpu", dtype="auto", **values)
    encoder = options.load()
    assert (encoder.background, encoder.exif_orientation) == (background, upright)
    published = options.load(exif_orientation=False, background=None)
    assert published.background == (background if "background" in given else None)
    assert not published.exif_orientation


@pytest.mark.parametrize("text", ["", "no colour", "#12", "#11223344"])
def test_a_background_that_is_no_colour(text: str) -> None:
    options = EncoderOptions(
        encoder="builtin",
        resample=None,
        exif_orientation=None,
        background=text,
        cache=False,
        device="cpu",
        dtype="auto",
    )
    with pytest.raises(InputError, match="--background takes a colour such as 'white'"):
        options.load()
