"""Calls of modules recorded, made with other arguments, or answered from a record, each for the duration of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from autoprune.errors import ModelError

Before = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]
"""Hook before a call: gets (module, args, kwargs); may return other (args, kwargs)."""
After = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], Any]
"""Hook after a call: gets (module, args, kwargs, output); may return another output."""


@contextmanager
def shadowed(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Let an instance attribute stand in for a method; at the end `module.__dict__` is what it was before.

    An attribute that somebody else put there during the block stays.
    """
    found = name in module.__dict__
    earlier = module.__dict__.get(name)
    module.__dict__[name] = value
    try:
        yield
    finally:
        if module.__dict__.get(name) is value:
            if found:
                module.__dict__[name] = earlier
            else:
                del module.__dict__[name]


@contextmanager
def hooked(module: nn.Module, *, before: Before | None = None, after: After | None = None) -> Iterator[None]:
    """Forward hooks on a module."""
    with ExitStack() as stack:
        if before is not None:
            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
        if after is not None:
            stack.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        yield


@contextmanager
def captured_call(module: nn.Module) -> Iterator[dict[str, Any]]:
    """The keyword arguments of the last call of a module, without its cache, which goes on growing.

    Raises:
        ModelError: it is called with positional arguments.
    """
    call: dict[str, Any] = {}

    def capture(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if args:
            raise ModelError("is called with positional arguments", field="model", value=type(module).__name__)
        call.clear()
        call.update({name: value for name, value in kwargs.items() if name != "past_key_values"})

    with hooked(module, before=capture):
        yield call


@contextmanager
def substituted_call(module: nn.Module, call: Mapping[str, Any]) -> Iterator[None]:
    """A module is called with these keyword arguments, whatever its caller gives."""
    with hooked(module, before=lambda *_: ((), dict(call))):
        yield


@contextmanager
def collected_outputs(modules: Iterable[nn.Module]) -> Iterator[list[Any]]:
    """Outputs of modules, in the order of their calls."""
    outputs: list[Any] = []

    def collect(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        outputs.append(output)

    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(hooked(module, after=collect))
        yield outputs


@contextmanager
def handed_on(modules: Sequence[nn.Module]) -> Iterator[set[int]]:
    """Places of modules whose first argument is the very output of the module before, unchanged.

    A model that adds something between its layers, in place or not, hands on another value.
    """
    places: set[int] = set()
    last: list[Any] = [None, 0]

    def enter(i: int) -> Before:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs.get("hidden_states")
            if hidden is not None and hidden is last[0] and hidden._version == last[1]:
                places.add(i)

        return before

    def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        last[:] = [first, first._version]

    with ExitStack() as stack:
        for i, module in enumerate(modules):
            stack.enter_context(hooked(module, before=enter(i), after=leave))
        yield places


@contextmanager
def recorded_outputs(recorded: Iterable[tuple[nn.Module, Any]]) -> Iterator[None]:
    """Modules return these outputs instead of running."""
    with ExitStack() as stack:
        for module, output in recorded:
            stack.enter_context(shadowed(module, "forward", lambda *_, _output=output, **__: _output))
        yield


@contextmanager
def guarded(module: nn.Module, ended: Callable[[], None]) -> Iterator[None]:
    """Run `ended` whenever a call of `module` ends, also by an exception, Ctrl-C included.

    torch runs no forward hooks after a ``BaseException``. The seam is the one that ``module.compile()`` uses, since
    ``forward`` belongs to accelerate, whose hooks may come and go while this one stays.
    """
    seam = "_compiled_call_impl"
    inner = module.__dict__.get(seam)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return (inner or module._call_impl)(*args, **kwargs)
        finally:
            ended()

    with shadowed(module, seam, call):
        yield
