"""How groups of commands, their help and wrong usage look."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, ClassVar, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from negrefine.cli.bundles import takes_bundles
from negrefine.similar_names import similar_names

# Typer exports some kinds of wrong usage; this is the base of all, Click's or Typer's own.
UsageError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])


@dataclass(frozen=True, slots=True)
class Later:
    """A command that is imported when it is called, or asked for its own help.

    Attributes:
        summary: The first paragraph of its help.
        below: If it is a group, the names of its commands.
    """

    summary: str
    below: tuple[str, ...] = ()


class CommandGroup(typer.Typer):
    """A group whose commands take bundles of options and have plain help.

    `sections` are titles of help, and below each the commands by name, which are functions or
    groups called like their module in `package`; those that are added are below "Commands".
    `completion` adds options that install the completion of a shell.
    """

    def __init__(
        self,
        name: str,
        text: str,
        package: str = "",
        sections: Mapping[str, Mapping[str, Later]] = MappingProxyType({}),
        *,
        completion: bool = False,
    ) -> None:
        kind = type("Group", (_Group,), {"package": package, "sections": sections})
        super().__init__(
            name=name,
            cls=kind,
            help=text,
            no_args_is_help=True,
            add_completion=completion,
            pretty_exceptions_enable=False,
            rich_markup_mode=None,
            context_settings={"help_option_names": ["-h", "--help"]},
        )

    def add(self, function: Callable[..., None], name: str | None = None) -> None:
        """Add a function as a command, called by its own name unless another is given."""
        self.command(name, cls=_Command)(takes_bundles(function))


class _Command(TyperCommand):
    """Lists arguments and options without the types of Python."""

    def get_params(self, ctx: Any) -> Any:
        return _with_defaults(super().get_params(ctx))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for title in ("Arguments", "Options"):
            kind = title.lower().removesuffix("s")
            rows = []
            for each in self.get_params(ctx):
                row = each.get_help_record(ctx)
                if row is not None and each.param_type_name == kind:
                    rows.append((each.metavar or each.name, row[1]) if kind == "argument" else row)
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [
            piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)
        ]


class _Group(TyperGroup):
    """Lists commands with whole summaries, and knows what a misspelt one means."""

    package: ClassVar[str]
    sections: ClassVar[Mapping[str, Mapping[str, Later]]]

    def get_params(self, ctx: Any) -> Any:
        return _with_defaults(super().get_params(ctx))

    @property
    def _later(self) -> dict[str, Later]:
        return {name: each for below in self.sections.values() for name, each in below.items()}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Click's signature
        return [*self._later, *(name for name in self.commands if name not in self._later)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self._later and cmd_name not in self.commands:
            self.commands[cmd_name] = _imported(self.package, cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        summaries = {
            title: [(name, each.summary) for name, each in below.items()]
            for title, below in self.sections.items()
        } or {
            "Commands": [
                (name, each.get_short_help_str(limit=1000)) for name, each in self.commands.items()
            ]
        }
        for title, rows in summaries.items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise UsageError(f"There is no command {name!r}{self._like(ctx, name)}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def _like(self, ctx: Any, name: str) -> str:
        groups = [f"{group} {name}" for group, each in self._later.items() if name in each.below]
        if groups:
            return f": did you mean {' or '.join(groups)}?"
        return _meant(name, self.list_commands(ctx))


def _with_defaults(parameters: Any) -> Any:
    # Typer's own switches, --help and completion, are None unless given. It imports pydantic to
    # convert None, which takes a tenth of a second, and not to convert False.
    for each in parameters:
        if not each.expose_value and each.default is None and getattr(each, "is_flag", False):
            each.default = False
    return parameters


def _imported(package: str, name: str) -> Any:
    """Return the command of this name, or the group, from the module of this name."""
    attribute = name.replace("-", "_")
    member = getattr(import_module(f"{package}.{attribute}"), attribute)
    if not isinstance(member, CommandGroup):
        function, member = member, CommandGroup(name, "")
        member.add(function)
    return get_command(member)


def _takes_arguments(context: Any) -> bool:
    return any(each.param_type_name == "argument" for each in context.command.params)


def usage_sentence(error: typer.BadParameter) -> str | None:
    """Return wrong usage as a sentence with where to look; None where help itself is the answer."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return None
    sentence = error.format_message()
    extra = re.match(r"Got unexpected extra arguments? ?(?:\(s\) )?\((\S+)", sentence)
    if hasattr(error, "possibilities"):
        options, unknown = _options(error.ctx), str(getattr(error, "option_name", ""))
        sentence = f"There is no option {unknown}{_meant(unknown, options)}"
    elif extra:
        advice = "put quotes around a pattern such as '*.png' and around a name with spaces."
        if error.ctx is not None and not _takes_arguments(error.ctx):
            advice = "this command takes options only; the name of an option is missing before it."
        sentence = f"{extra[1].rstrip(')')!r} is one argument too many: {advice}"
    elif type(error).__name__ == "MissingParameter" and error.param is not None:
        sentence = sentence.rstrip(".") + _purpose(error.param)
    # Pydantic's words for a value that is no number.
    sentence = re.sub(r", unable to parse .*", "", sentence).replace("Value error, ", "")
    sentence = sentence.replace("Input should be", "it must be")
    if not sentence.endswith((".", "?")):
        sentence += "."
    return f"{sentence} See '{error.ctx.command_path} --help'." if error.ctx else sentence


def _purpose(parameter: Any) -> str:
    """Return what a parameter is for, the first sentence of its help, after a colon."""
    first = re.split(r"[.;] |\.$", getattr(parameter, "help", None) or "")[0].strip()
    # "In-distribution images", but "OOD set" and "GPU".
    lower = first[:1].lower() + first[1:] if first[1:2].islower() or first[1:2] == " " else first
    return f": {lower}." if lower else "."


def _meant(name: str, known: Iterable[str]) -> str:
    similar = similar_names(name, known)
    return f": did you mean {' or '.join(similar)}?" if similar else "."


def _options(ctx: Any) -> list[str]:
    """Return the long options of the command that a context is of."""
    texts = [
        text for each in ctx.command.get_params(ctx) for text in (*each.opts, *each.secondary_opts)
    ]
    return [text for text in texts if text.startswith("--")]
