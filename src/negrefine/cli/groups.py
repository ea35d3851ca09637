"""How groups of commands, their help and wrong usage look."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, cast

import typer
from typer.core import TyperCommand, TyperGroup

from negrefine.cli.bundles import takes_bundles
from negrefine.similar_names import similar_names

# Typer exports some kinds of wrong usage; this is the base of all, Click's or Typer's own.
UsageError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])


class CommandGroup(typer.Typer):
    """A group whose commands take bundles of options and have plain help.

    `sections` are titles and the names of the commands below each, for help; by default all are
    below "Commands".
    """

    def __init__(
        self, name: str, text: str, sections: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        kind = type("Group", (_Group,), {"sections": sections or {}})
        super().__init__(
            name=name,
            cls=kind,
            help=text,
            no_args_is_help=True,
            pretty_exceptions_enable=False,
            rich_markup_mode=None,
            context_settings={"help_option_names": ["-h", "--help"]},
        )

    def add(self, function: Callable[..., None], name: str | None = None) -> None:
        """Add a function as a command, called by its own name unless another is given."""
        self.command(name, cls=_Command)(takes_bundles(function))


class _Command(TyperCommand):
    """Lists arguments and options without the types of Python."""

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

    sections: ClassVar[Mapping[str, tuple[str, ...]]]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, names in (self.sections or {"Commands": tuple(self.commands)}).items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl(
                    [(name, each.get_short_help_str(limit=1000)) for name, each in found if each]
                )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise UsageError(f"There is no command {name!r}{self._like(name)}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def _like(self, name: str) -> str:
        below = [
            f"{group} {each}"
            for group, command in self.commands.items()
            for each in getattr(command, "commands", ())
            if each == name
        ]
        return f": did you mean {' or '.join(below)}?" if below else _meant(name, self.commands)


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
        sentence = (
            f"{extra[1].rstrip(')')!r} is one argument too many: put quotes around a pattern such "
            "as '*.png' and around a name with spaces."
        )
    # Pydantic's words for a value that is no number.
    sentence = re.sub(r", unable to parse .*", "", sentence).replace("Value error, ", "")
    sentence = sentence.replace("Input should be", "it must be")
    if not sentence.endswith((".", "?")):
        sentence += "."
    return f"{sentence} See '{error.ctx.command_path} --help'." if error.ctx else sentence


def _meant(name: str, known: Iterable[str]) -> str:
    similar = similar_names(name, known)
    return f": did you mean {' or '.join(similar)}?" if similar else "."


def _options(ctx: Any) -> list[str]:
    """Return the long options of the command that a context is of."""
    texts = [
        text for each in ctx.command.get_params(ctx) for text in (*each.opts, *each.secondary_opts)
    ]
    return [text for text in texts if text.startswith("--")]
