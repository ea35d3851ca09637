"""Options declared once, and bundles of them that commands share.

A bundle is a dataclass whose fields are options or other bundles. `takes_bundles` replaces each
parameter of a command whose type is a bundle by the options of the bundle, from which Typer makes
the command line, and hands the command one object with their values:

    @dataclass(frozen=True, kw_only=True)
    class Hardware:
        device: str = option("auto", "Where to compute.")
        dtype: str = option("auto", "Number format.")

    @takes_bundles
    def score(images: list[str], hardware: Hardware) -> None: ...

`score` has the options --device and --dtype. `Annotated[Base, made]` takes a bundle that is made at
run time, a subclass of Base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

_METAVARS = {bool: None, int: "NUMBER", float: "NUMBER", Path: "PATH", str: "TEXT"}


def option(
    default: Any, text: str, metavar: str | None = None, *, name: str = "", **settings: Any
) -> Any:
    """Declare an option; `...` as default makes it required, `name` replaces the field's name."""
    names = [name] if name else []
    return typer.Option(default, *names, help=text, metavar=metavar, **settings)


def takes_bundles(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take bundles of options; see the module."""
    hints = get_type_hints(command, include_extras=True)
    bundles = {name: bundle for name, hint in hints.items() if (bundle := _bundle(hint))}
    parameters: list[Parameter] = []
    for parameter in signature(command).parameters.values():
        if parameter.name in bundles:
            parameters += _options(bundles[parameter.name])
        else:
            parameters.append(_keyword(parameter.name, parameter.default, hints[parameter.name]))

    @wraps(command)
    def with_bundles(**values: Any) -> None:
        filled = {name: _fill(bundle, values) for name, bundle in bundles.items()}
        command(**values, **filled)

    with_bundles.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    with_bundles.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_bundles


def given_options(bundle: Any) -> list[str]:
    """Return the names of the options of a bundle whose values are not their defaults."""
    names: list[str] = []
    for field in fields(bundle):
        value: Any = getattr(bundle, field.name)
        declared: Any = field.default
        if is_dataclass(value):
            names += given_options(value)
        elif value != declared.default:
            first = declared.param_decls[0] if declared.param_decls else f"--{field.name}"
            names.append(first.partition("/")[0].replace("_", "-"))
    return names


def _bundle(hint: Any) -> Any:
    """Return the dataclass that a type hint is or is annotated with, None if there is none."""
    candidates = (hint, *getattr(hint, "__metadata__", ()))
    return next((c for c in candidates if isinstance(c, type) and is_dataclass(c)), None)


def _options(bundle: Any) -> Iterator[Parameter]:
    hints = get_type_hints(bundle, include_extras=True)
    for each in fields(bundle):
        if nested := _bundle(hints[each.name]):
            yield from _options(nested)
        else:
            yield _keyword(each.name, each.default, hints[each.name])


def _keyword(name: str, default: Any, annotation: Any) -> Parameter:
    if getattr(default, "metavar", "") is None:
        # The declaration may be shared by options of other types.
        default = copy(default)
        default.metavar = _metavar(annotation)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _metavar(annotation: Any) -> str | None:
    """Return what help shows for the value of an option; None for a switch, which has none."""
    kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
    kind = next((kind for kind in kinds if kind in _METAVARS or issubclass(kind, Enum)), str)
    if issubclass(kind, Enum):
        return "|".join(str(member.value) for member in kind)
    return _METAVARS[kind]


def _fill(bundle: Any, values: dict[str, Any]) -> Any:
    """Return a bundle with its values, which are taken out of `values`."""
    hints = get_type_hints(bundle, include_extras=True)
    content = {}
    for each in fields(bundle):
        nested = _bundle(hints[each.name])
        content[each.name] = _fill(nested, values) if nested else values.pop(each.name)
    return bundle(**content)
