"""accelerate exchanges `forward` of modules and brings weights when they are due; the patch stays out of its way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.reference import MaskedReference
from support.zoo import Zoo, llava, qwen2_5_vl
from torch import Tensor

import autoprune
from autoprune import Schedule

accelerate = pytest.importorskip("accelerate", reason="device_map needs accelerate")
hooks = pytest.importorskip("accelerate.hooks")

CPU = torch.device("cpu")
SCHEDULE = Schedule(
    stages=[
        {"layer": 1, "keep": {"ratio": 0.75}, "criterion": {"name": "attention", "rows": "text"}},
        {"layer": 3, "keep": {"ratio": 0.4}, "criterion": {"name": "attention", "rows": "last", "at": "current"}},
    ]
)


def align(model, folder: Path) -> None:
    for layer in model.get_decoder().layers:
        hooks.add_hook_to_module(layer, hooks.AlignDevicesHook(execution_device=CPU, io_same_device=True))


def dispatch(model, folder: Path) -> None:
    accelerate.dispatch_model(model, {"": "cpu"}, main_device="cpu", force_hooks=True)


def offload_to_memory(model, folder: Path) -> None:
    accelerate.cpu_offload(model, execution_device=CPU)


def offload_to_disk(model, folder: Path) -> None:
    accelerate.disk_offload(model, str(folder), execution_device=CPU)


def logits(zoo: Zoo) -> Tensor:
    with torch.no_grad():
        return zoo.model(**zoo.inputs).logits[:, -1]


@pytest.mark.parametrize("first", ["patch", "hooks"])
@pytest.mark.parametrize("removed", ["patch", "hooks"])
@pytest.mark.parametrize("spread", [align, dispatch, offload_to_memory, offload_to_disk])
@pytest.mark.parametrize("family", [llava, qwen2_5_vl])
def test_hooks_may_come_and_go_before_and_after_the_patch(
    family: Callable[..., Zoo], spread: Callable[..., None], removed: str, first: str, tmp_path: Path
) -> None:
    zoo = family()
    dense = logits(zoo)
    with MaskedReference(zoo.model, SCHEDULE, zoo.visual, zoo.inputs["attention_mask"]):
        expected = logits(zoo)
    if first == "hooks":
        spread(zoo.model, tmp_path)
    patch = autoprune.apply(zoo.model, SCHEDULE)
    if first == "patch":
        spread(zoo.model, tmp_path)
    torch.testing.assert_close(logits(zoo), expected, atol=1e-4, rtol=0)
    assert patch.report.active
    if removed == "patch":
        patch.remove()
        assert torch.equal(logits(zoo), dense)
        hooks.remove_hook_from_submodules(zoo.model)
    else:
        hooks.remove_hook_from_submodules(zoo.model)
        if spread is align:  # the others leave weights where they were offloaded to
            torch.testing.assert_close(logits(zoo), expected, atol=1e-4, rtol=0)
        patch.remove()
    assert not any(module.__dict__.get("_compiled_call_impl") for module in zoo.model.modules())
    assert "generate" not in vars(zoo.model)


def test_generating_with_weights_on_disk(tmp_path: Path) -> None:
    zoo = llava()
    options = {**zoo.inputs, "max_new_tokens": 4, "do_sample": False}
    with MaskedReference(zoo.model, SCHEDULE, zoo.visual, zoo.inputs["attention_mask"]):
        expected = zoo.model.generate(**options)
    offload_to_disk(zoo.model, tmp_path)
    with autoprune.apply(zoo.model, SCHEDULE):
        assert torch.equal(zoo.model.generate(**options), expected)
