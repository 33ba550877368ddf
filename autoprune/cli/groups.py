"""Groups of options that are read as one value: what a command declares as one parameter, its line has as several."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, get_args, get_type_hints

import yaml

from autoprune.cli.failures import InputError


@dataclass(frozen=True)
class Group:
    """Options that are one value of a command; stands in the annotation of its parameter.

    Attributes:
        options: Annotation and default of each option, by the name of its field.
        made: Makes the value from the fields.
    """

    options: Mapping[str, tuple[Any, Any]]
    made: Callable[..., Any]

    def without(self, *names: str) -> Group:
        """The group without some of its options, whose fields keep their defaults."""
        return Group({name: option for name, option in self.options.items() if name not in names}, self.made)

    def having(self, **options: tuple[Any, Any]) -> Group:
        """The group with some of its options declared in another way."""
        return Group({**self.options, **options}, self.made)


def with_groups(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command as typer reads it: the options of its groups one by one."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Group] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        group = next((extra for extra in get_args(hint)[1:] if isinstance(extra, Group)), None)
        if group is None:
            parameters.append(_keyword(parameter.name, hint, parameter.default))
            continue
        groups[parameter.name] = group
        parameters += [_keyword(name, *option) for name, option in group.options.items()]

    @wraps(command)
    def call(**given: Any) -> Any:
        values = {name: group.made(**{key: given.pop(key) for key in group.options}) for name, group in groups.items()}
        return command(**given, **values)

    shown: Any = call
    del shown.__wrapped__  # typer reads the signature of what is wrapped
    shown.__signature__ = inspect.Signature(parameters)
    shown.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def with_option(command: Callable[..., Any], name: str, annotation: Any, default: Any) -> Callable[..., Any]:
    """A command as typer reads it, with one more option behind its own."""
    shown: Any = command
    known = inspect.signature(command).parameters.values()
    shown.__signature__ = inspect.Signature([*known, _keyword(name, annotation, default)])
    shown.__annotations__ = {**command.__annotations__, name: annotation}
    return command


def settings(option: str, texts: list[str] | None) -> dict[str, Any]:
    """``KEY=VALUE`` of an option that may be repeated; a value is YAML, as in a study file.

    Raises:
        InputError: naming the option.
    """
    found: dict[str, Any] = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign or not name or name in found:
            said = f"gives {name} twice" if name in found else "is not KEY=VALUE"
            raise InputError(said, field=option, value=text, remedy="write such as max_pixels=200704")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError("the value is not YAML", field=option, value=text, remedy="quote it") from None
    return found


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
