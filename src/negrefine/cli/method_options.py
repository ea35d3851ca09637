"""Options for the parameters of detectors, made from the declarations of their classes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from typing import Any, ClassVar

from negrefine.cli.bundles import option
from negrefine.constraints import Boolean
from negrefine.detectors import DETECTORS, Detector
from negrefine.detectors.parameters import Parameter, declared_parameters
from negrefine.errors import InputError


@dataclass(frozen=True, slots=True)
class Given:
    """The value of a parameter, and the option by which the user gave it."""

    option: str
    value: Any


class MethodOptions:
    """Base of the bundles that `method_options` makes; a field is None if it was not given."""

    declared: ClassVar[Mapping[str, Parameter]]

    def given(self) -> dict[str, Given]:
        """Return the parameters that were given."""
        values = {name: getattr(self, name) for name in self.declared}
        return {
            name: Given(each.option, not each.default if each.flag else values[name])
            for name, each in self.declared.items()
            if values[name] is not None
        }


def method_options(
    classes: Iterable[type[Detector]],
    only: Collection[str] | None = None,
    *,
    lists: bool = False,
) -> type[MethodOptions]:
    """Return a bundle with an option for each parameter that is declared for the command line.

    Parameters of the same name share an option, whose help names the methods that have it unless
    all do. `only` names the parameters, by default all; with `lists` the options take several
    values.
    """
    classes = list(classes)
    owners: dict[str, dict[str, Parameter]] = {}
    for cls in classes:
        for name, parameter in declared_parameters(cls).items():
            if parameter.on_command_line and (only is None or name in only):
                owners.setdefault(name, {})[cls.method] = parameter
    declared = {name: next(iter(by_method.values())) for name, by_method in owners.items()}
    fields: list[tuple[str, Any, Any]] = []
    for name, first in declared.items():
        text = _help(owners[name], len(classes))
        if lists:
            text += f" Values separated by commas; default: {first.default:g}."
            fields.append((name, str | None, option(None, text, "LIST", name=first.option)))
        else:
            is_switch = isinstance(first.constraint, Boolean) and not first.flag
            names = f"{first.option}/--no-{first.option[2:]}" if is_switch else first.option
            fields.append((name, first.option_type | None, option(None, text, name=names)))
    namespace = {"declared": declared}
    return make_dataclass(
        "Options", fields, bases=(MethodOptions,), namespace=namespace, frozen=True, kw_only=True
    )


def _help(by_method: Mapping[str, Parameter], n_methods: int) -> str:
    methods: dict[str, list[str]] = {}
    for method, parameter in by_method.items():
        methods.setdefault(parameter.help, []).append(method)
    return " ".join(
        text if len(names) == n_methods else f"{text} [{', '.join(names)}]"
        for text, names in methods.items()
    )


def parameters_for(methods: Sequence[str], given: Mapping[str, Given]) -> dict[str, dict[str, Any]]:
    """Return for each method the given parameters it has; InputError for one that none has."""
    known = {method: declared_parameters(DETECTORS[method]) for method in methods}
    for name, each in given.items():
        if not any(name in names for names in known.values()):
            noun = "method" if len(methods) == 1 else "methods"
            raise InputError(
                f"{each.option} has no effect on the {noun} {', '.join(map(repr, methods))}: "
                "leave it out."
            )
    return {
        method: {name: each.value for name, each in given.items() if name in names}
        for method, names in known.items()
    }
