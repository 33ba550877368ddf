"""What a runner's step is to a model whose layers are pruned, and to others: by stand-ins for vLLM's parts."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from autoprune import engines
from autoprune.engines.vllm.steps import ScheduledRequest
from autoprune.errors import PatchError
from autoprune.schedule import Schedule

ROOM = f"{engines.__name__}.vllm"
STAGE = {"layer": 1, "keep": {"ratio": 0.5}, "criterion": {"name": "attention", "rows": "last"}}


class Runner:
    """Stands for vLLM's: it holds a model, one request, and calls the model."""

    attn_groups = (["group"],)

    def __init__(self, model: Any) -> None:
        table = SimpleNamespace(
            get_numpy_array=lambda: np.zeros((1, 4), np.int32),
            get_device_tensor=lambda n: torch.zeros(n, 4, dtype=torch.int32),
            block_size=16,
        )
        self.model = model
        self.query_start_loc = SimpleNamespace(np=np.array([0, 8]))
        self.input_batch = SimpleNamespace(
            num_reqs=1,
            req_ids=["a"],
            block_table=[table],
            num_computed_tokens_cpu=np.array([0]),
            num_prompt_tokens=np.array([8]),
        )
        self.requests = {"a": SimpleNamespace(mm_features=[image(2, 4)])}

    def get_model(self) -> Any:
        return self.model

    def _model_forward(self, *given: Any) -> tuple[Any, ...]:
        return given


def image(first: int, length: int) -> Any:
    return SimpleNamespace(mm_position=SimpleNamespace(offset=first, length=length, is_embed=None))


@pytest.fixture
def context() -> Any:
    return SimpleNamespace(additional_kwargs={}, attn_metadata={}, slot_mapping={})


@pytest.fixture
def room(monkeypatch, context) -> Any:
    """The two modules that stand between vLLM's runner and a model, as if vLLM were these few names."""
    parts = {
        "forward_context": {"get_forward_context": lambda: context},
        "v1.attention.backend": {"CommonAttentionMetadata": SimpleNamespace},
        "v1.worker.gpu_model_runner": {"GPUModelRunner": type("GPUModelRunner", (Runner,), {})},
    }
    parts["v1.worker.gpu_model_runner"]["GPUModelRunner"]._model_forward = Runner._model_forward
    for path, names in parts.items():
        steps = f"vllm.{path}".split(".")
        for i in range(1, len(steps) + 1):
            monkeypatch.setitem(sys.modules, ".".join(steps[:i]), ModuleType(".".join(steps[:i])))
        vars(sys.modules[f"vllm.{path}"]).update(names)
    for name in ("running", "layers"):
        monkeypatch.setitem(sys.modules, f"{ROOM}.{name}", None)  # what is there comes back later
        del sys.modules[f"{ROOM}.{name}"]
    made = {name: importlib.import_module(f"{ROOM}.{name}") for name in ("running", "layers")}
    return SimpleNamespace(**made, runner=parts["v1.worker.gpu_model_runner"]["GPUModelRunner"])


def test_steps_are_noted_for_models_whose_layers_are_pruned_alone(room, context) -> None:
    room.running.note_steps()
    room.running.note_steps()  # once is enough
    for dense in (SimpleNamespace(), SimpleNamespace(pruned_layers=None)):
        assert room.runner(dense)._model_forward(1, 2) == (1, 2)
        assert room.running.current_step() is None
    assert room.runner(SimpleNamespace(pruned_layers=object()))._model_forward(1, 2) == (1, 2)
    step = room.running.current_step()
    assert step.requests == (ScheduledRequest("a", 8, 0, 8, ((2, 6),)),)
    assert set(step.living) == {"a"}


def test_layers_that_keep_their_entries_in_several_ways_are_refused(room) -> None:
    room.running.note_steps()
    runner = room.runner(SimpleNamespace(pruned_layers=object()))
    runner.attn_groups = (["full"], ["a window"])
    with pytest.raises(PatchError, match="layers of several kinds"):
        runner._model_forward()


def test_a_step_that_would_drop_tokens_without_embeddings_is_refused(room) -> None:
    attention = torch.nn.Module()
    attention.layer_name, attention.head_size = "0", 8
    layer = SimpleNamespace(self_attn=SimpleNamespace(attn=attention, scaling=1.0))
    decoder = SimpleNamespace(layers=[layer, layer], norm=None)
    schedule = Schedule.model_validate({"format": "autoprune.schedule", "version": 1, "stages": [STAGE]})
    layers = room.layers.PrunedLayers(decoder, schedule, {})

    def step(*requests: ScheduledRequest) -> Any:
        return SimpleNamespace(requests=requests, living={r.name for r in requests})

    assert layers.run(step(ScheduledRequest("text", 5, 0, 5)), None, torch.arange(5)) is None
    with pytest.raises(PatchError, match="came without embeddings") as caught:
        layers.run(step(ScheduledRequest("a", 8, 0, 8, ((2, 6),))), None, torch.arange(8))
    assert caught.value.value == ["a"]
