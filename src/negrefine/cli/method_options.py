"""Options for the parameters of detectors, made from the declarations of their classes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import make_dataclass
from typing import Any, ClassVar

from negrefine.cli.bundles import option
from negrefine.cli.given import Given
from negrefine.constraints import Boolean
from negrefine.detectors import DETECTORS, Detector
from negrefine.detectors.negrefine import FILTER_PARAMETERS
from negrefine.detectors.parameters import Parameter, declared_parameters
from negrefine.errors import InputError
from negrefine.similar_names import hint


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

    Parameters of the same name share an option, whose help names the methods of the registry that
    have it unless all do. `only` names the parameters, by default all; with `lists` the options
    take several values.
    """
    declared: dict[str, Parameter] = {}
    for cls in classes:
        for name, parameter in declared_parameters(cls).items():
            if parameter.on_command_line and (only is None or name in only):
                declared.setdefault(name, parameter)
    fields: list[tuple[str, Any, Any]] = []
    for name, first in declared.items():
        text = _help(name, defaults=not lists)
        if lists:
            text += f" Values separated by commas; default: {_shown(first.default)}."
            fields.append((name, str | None, option(None, text, "LIST", name=first.option)))
        else:
            is_switch = isinstance(first.constraint, Boolean) and not first.flag
            names = f"{first.option}/--no-{first.option[2:]}" if is_switch else first.option
            metavar = "NAME" if first.option_type is str else None
            settled = option(None, text, metavar, name=names)
            fields.append((name, first.option_type | None, settled))
    namespace = {"declared": declared}
    return make_dataclass(
        "Options", fields, bases=(MethodOptions,), namespace=namespace, frozen=True, kw_only=True
    )


def _help(name: str, *, defaults: bool) -> str:
    # The default method and its relatives first.
    methods: dict[str, dict[str, Parameter]] = {}
    for method, cls in reversed(DETECTORS.items()):
        if found := declared_parameters(cls).get(name):
            methods.setdefault(found.help, {})[method] = found
    notes = {text: _note(found, defaults=defaults) for text, found in methods.items()}
    return " ".join(f"{text} [{note}]" if note else text for text, note in notes.items())


def _note(found: Mapping[str, Parameter], *, defaults: bool) -> str:
    """Return which methods have a parameter, unless all do, and its default."""
    names = "" if len(found) == len(DETECTORS) else ", ".join(found)
    if not defaults or any(each.flag for each in found.values()):
        return names
    shown = [_shown(each.default) for each in found.values()]
    values = f"default: {shown[0]}" if len(set(shown)) == 1 else f"defaults: {', '.join(shown)}"
    return f"{names}; {values}" if names else values


def _shown(default: Any) -> str:
    if isinstance(default, bool) or default is None:
        return {True: "yes", False: "no", None: "none"}[default]
    return f"{default:g}" if isinstance(default, float) else str(default)


def check_methods(methods: Iterable[str]) -> None:
    """Raise InputError for a method that does not exist."""
    for method in methods:
        if method not in DETECTORS:
            said = hint(method, sorted(DETECTORS), least=0.7)
            raise InputError(f"There is no method {method!r}: {said}")


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


FILTER_OPTIONS = method_options([DETECTORS["negrefine"]], only=FILTER_PARAMETERS)
"""The options of NegRefine's filter beside its judge and word lists."""

LABEL_OPTIONS = method_options(
    [DETECTORS["negrefine"], DETECTORS["eoe"]],
    only=(*FILTER_PARAMETERS, "n_proposed", "proposal_kind"),
)
"""The same, and what a proposer is asked for."""
