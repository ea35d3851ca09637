"""Parameters of detectors, each declared once: default, constraint, help, command-line option.

A detector is a dataclass whose fields are made by `parameter`:

    temperature: float = parameter(1.0, POSITIVE, "Divides the cosines.")

The constructor, the check before `fit`, saved parameters, the options of the command line and the
tables of the documentation are made from these declarations. Neither this module nor what a
method's file imports at its head needs torch, so that `negrefine fit --help` answers at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import numpy as np
from typing_extensions import Self, dataclass_transform

from negrefine.constraints import Constraint, Fields, Text, check_all
from negrefine.errors import InputError
from negrefine.labels.prompts import Prompts

_KEY = "negrefine"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Parameter:
    """The declaration of one parameter.

    Attributes:
        constraint: Checked before `fit` does any work.
        help: One sentence or two, for the documentation and the command line.
        flag: For a switch, the option that gives the parameter the other value than its default;
            None derives it from the name.
        on_command_line: Simple values have an option; objects have none.
    """

    name: str
    default: Any
    constraint: Constraint
    help: str
    flag: str | None
    on_command_line: bool

    @property
    def option(self) -> str:
        """The command-line option: "--n-groups" for `n_groups`."""
        return self.flag or f"--{self.name.replace('_', '-')}"

    @property
    def option_type(self) -> type:
        """What the option's text is read as."""
        kind: type = getattr(self.constraint, "option_type", str)
        return kind


def parameter(
    default: Any,
    constraint: Constraint,
    help: str,  # noqa: A002 - the word of the command line
    *,
    flag: str | None = None,
    on_command_line: bool = True,
) -> Any:
    """Declare a parameter as the field of a detector; arguments as `Parameter` describes them."""
    declared = Parameter("", default, constraint, help, flag, on_command_line)
    return field(default=default, metadata={_KEY: declared})


def redeclared(base: type, name: str, default: Any) -> Any:
    """Declare a parameter of another detector again, with another default."""
    declared = replace(_fields(base)[name].metadata[_KEY], default=default)
    return field(default=default, metadata={_KEY: declared})


def fitted(default: Any = MISSING, *, default_factory: Any = MISSING) -> Any:
    """Declare an attribute that `fit` sets; it is no argument of the constructor."""
    if default_factory is not MISSING:
        return field(default_factory=default_factory, init=False)
    return field(default=default, init=False)


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
def detector(cls: type[_T]) -> type[_T]:
    """Make a detector class a dataclass and list its parameters in its docstring."""
    cls = dataclass(eq=False, repr=False, kw_only=True)(cls)
    lines = [
        f"{name}: {declared.help} Default: {declared.default!r}."
        for name, declared in declared_parameters(cls).items()
    ]
    if lines:
        cls.__doc__ = f"{(cls.__doc__ or '').rstrip()}\n\n    Parameters:\n" + "\n".join(
            f"        {line}" for line in lines
        )
    return cls


def declared_parameters(cls: type) -> dict[str, Parameter]:
    """Return the declarations of a detector class by name, in the order of its constructor."""
    return {
        name: replace(each.metadata[_KEY], name=name)
        for name, each in _fields(cls).items()
        if _KEY in each.metadata
    }


def _fields(cls: type) -> dict[str, Field[Any]]:
    return {each.name: each for each in fields(cls)} if is_dataclass(cls) else {}


class Parametrised:
    """Parameters by name, as scikit-learn's estimators have them: `clone` and `set_params` work.

    The constructor only assigns. A class of one's own may be a dataclass with `parameter` fields or
    have a plain constructor; then `parameter_constraints` can hold its constraints by name.
    """

    parameter_constraints: ClassVar[Mapping[str, Constraint]] = MappingProxyType({})

    @classmethod
    def _get_param_names(cls) -> list[str]:
        arguments = list(inspect.signature(cls.__init__).parameters.values())[1:]
        kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        return sorted(argument.name for argument in arguments if argument.kind not in kinds)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters by name; `deep` is ignored, for scikit-learn."""
        del deep
        return {name: getattr(self, name) for name in self._get_param_names()}

    def set_params(self, **parameters: Any) -> Self:
        """Set parameters by name and return the detector; InputError for an unknown name."""
        known = self._get_param_names()
        for name, value in parameters.items():
            if name not in known:
                raise InputError(
                    f"Invalid parameter {name!r} for {type(self).__name__}: "
                    f"it has {', '.join(known)}."
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """Show the parameters that differ from their defaults."""
        arguments = inspect.signature(type(self).__init__).parameters
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value is not arguments[name].default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags of an outlier detector."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type="outlier_detector",
            target_tags=TargetTags(required=False),
            input_tags=InputTags(two_d_array=False, string=True),
        )

    def check_parameters(self, names: Iterable[str] | None = None) -> None:
        """Raise InputError if a constraint refuses one of these parameters; None checks all."""
        declared = {name: p.constraint for name, p in declared_parameters(type(self)).items()}
        table = {**declared, **self.parameter_constraints}
        wanted = table if names is None else set(names)
        check_all(self, {name: each for name, each in table.items() if name in wanted})


@dataclass(frozen=True)
class Unsaved:
    """Takes the place of a user's own "lexicon" or "judge" in a loaded detector."""

    parameter: str
    name: str

    def error(self) -> InputError:
        """Return the error that fitting again raises."""
        return InputError(
            f"The {self.parameter} {self.name!r} is not part of the saved detector: give it with "
            f"set_params({self.parameter}=...) before fitting again."
        )


def encode_parameter(value: Any) -> Any:
    """Return a parameter as JSON data; of a user's own object only the name is left."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Prompts):
        return value.as_dict()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Iterable):
        return [encode_parameter(item) for item in value]
    return {"unsaved": str(getattr(value, "name", type(value).__name__))}


def decode_parameters(encoded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of `encode_parameter`; what was not saved becomes `Unsaved`.

    Raises InputError for what `encode_parameter` does not make.
    """
    decoded: dict[str, Any] = {}
    for name, value in encoded.items():
        if name == "prompts" and value is not None:
            Fields({})(name, value)
            decoded[name] = Prompts(**value)
        elif isinstance(value, Mapping):
            Fields({"unsaved": Text()})(name, value)
            decoded[name] = Unsaved(name, value["unsaved"])
        else:
            decoded[name] = value
    return decoded


def check_decoded(owner: Parametrised, decoded: Mapping[str, Any]) -> None:
    """Check the parameters of a loaded detector; only objects may be `Unsaved`.

    Raises InputError for a value that its constraint refuses.
    """
    declared = declared_parameters(type(owner))
    objects = {n for n, p in declared.items() if p.default is None and not p.on_command_line}
    unsaved = {name for name, value in decoded.items() if isinstance(value, Unsaved)}
    owner.check_parameters(name for name in declared if name not in objects & unsaved)
