"""Modules shadowed, hooked and replayed: each for a block, with nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import ModelError
from autoprune.runtime.replay import (
    captured_call,
    collected_outputs,
    hooked,
    recorded_outputs,
    shadowed,
    substituted_call,
)


class Doubling(nn.Module):
    def forward(self, x: Tensor, past_key_values: Any = None, plus: float = 0.0) -> Tensor:
        return 2 * x + plus


ONE = torch.ones(1)
BLOCKS: dict[str, Callable[[nn.Module], AbstractContextManager[Any]]] = {
    "shadowed": lambda module: shadowed(module, "forward", lambda x: x),
    "hooked": lambda module: hooked(module, before=lambda *_: None, after=lambda *_: None),
    "captured": captured_call,
    "substituted": lambda module: substituted_call(module, {"x": ONE}),
    "collected": lambda module: collected_outputs([module]),
    "recorded": lambda module: recorded_outputs([(module, ONE)]),
}


def state(module: nn.Module) -> dict[str, Any]:
    return {name: dict(value) if name.endswith("_hooks") else value for name, value in vars(module).items()}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["stock", "with a forward of its own"])
def test_nothing_is_left_behind_also_after_an_error(name: str, wrapped: bool) -> None:
    module = Doubling()
    if wrapped:
        module.forward = lambda x: 3 * x  # type: ignore[method-assign]  # as accelerate does
    before = state(module)
    with BLOCKS[name](module):
        pass
    assert state(module) == before
    with pytest.raises(ZeroDivisionError), BLOCKS[name](module):
        raise ZeroDivisionError
    assert state(module) == before


def test_an_attribute_that_was_replaced_within_the_block_stays() -> None:
    module = Doubling()
    theirs = lambda x: 5 * x  # noqa: E731
    with shadowed(module, "forward", lambda x: x):
        module.forward = theirs  # type: ignore[method-assign, assignment]
    assert module.forward is theirs


def test_blocks_on_one_module_nest() -> None:
    module = Doubling()
    with shadowed(module, "forward", lambda x: 3 * x):
        with shadowed(module, "forward", lambda x: 4 * x):
            assert module(ONE) == 4
        assert module(ONE) == 3
    assert module(ONE) == 2


def test_a_captured_call_can_be_made_again_with_another_cache() -> None:
    module = Doubling()
    with captured_call(module) as call:
        module(x=7 * ONE, past_key_values="first", plus=1.0)
        module(x=ONE, past_key_values="second")
    assert call == {"x": ONE}
    with substituted_call(module, {**call, "plus": 0.5}), captured_call(module) as again:
        assert module(x=100 * ONE) == 2.5
    assert again == {"x": ONE, "plus": 0.5}


def test_a_call_that_cannot_be_captured_is_refused() -> None:
    module = Doubling()
    with pytest.raises(ModelError, match="positional"), captured_call(module):
        module(ONE)


def test_outputs_are_collected_and_returned_instead_of_running() -> None:
    layers = [Doubling(), Doubling()]
    with collected_outputs(layers) as outputs:
        layers[1](layers[0](ONE))
    assert [int(output) for output in outputs] == [2, 4]
    with recorded_outputs(zip(layers, outputs, strict=True)):
        assert layers[1](layers[0](50 * ONE, plus=9.0)) is outputs[1]


def test_hooks_see_keyword_arguments_and_may_change_both_ends() -> None:
    module = Doubling()

    def before(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "plus": kwargs["plus"] + 1}

    def after(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor) -> Tensor:
        return output * 10

    with hooked(module, before=before, after=after):
        assert module(ONE, plus=1.0) == 40
