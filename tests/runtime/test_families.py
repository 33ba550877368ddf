"""The contract every family meets: a patched model equals the masked reference, wherever it prunes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from support.reference import layers_of
from support.rows import families, families_with
from support.schedules import COVER, EVERYTHING, SCHEDULES
from support.zoo import FAMILIES, Zoo
from torch import Tensor

import autoprune

KERNELS = ("sdpa", "eager")
CASES = families_with(lambda row: SCHEDULES if row.core else COVER)
TOLERANCE = {"atol": 1e-4, "rtol": 0}
STEPS = 6


@cache
def built(family: str) -> Zoo:
    return FAMILIES[family].build()


@dataclass
class Expected:
    """What the reference answers: prefill logits [B, S, V], greedy ids, their logits, positions dropped by layer."""

    logits: Tensor
    sequences: Tensor
    steps: Tensor
    dead: dict[int, Tensor]


def answer(zoo: Zoo) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the prefill, greedily generated ids, and their logits."""
    with torch.no_grad():
        logits = zoo.model(**zoo.inputs).logits
        options = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True}
        out = zoo.model.generate(**zoo.inputs, max_new_tokens=STEPS, **options)
    return logits, out.sequences, torch.stack(out.logits, 1)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Zoo, Any, Expected]:
    family, name = request.param
    zoo = built(family)
    with FAMILIES[family].reference(zoo.model, SCHEDULES[name], zoo.visual, zoo.inputs["attention_mask"]) as reference:
        return zoo, SCHEDULES[name], Expected(*answer(zoo), reference.dead)


@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_the_masked_reference(case: tuple[Zoo, Any, Expected], kernel: str) -> None:
    zoo, wanted, expected = case
    zoo.model.set_attn_implementation(kernel)
    with autoprune.apply(zoo.model, wanted) as patch:
        logits, sequences, steps = answer(zoo)
        report = patch.report
    valid = zoo.inputs["attention_mask"].bool()
    layers = range(len(report.tokens))
    alive = torch.stack([valid & ~expected.dead[i] for i in layers])
    for k, samples in report.kept.items():
        for b, kept in enumerate(samples):
            own = valid[b].cumsum(0) - 1
            assert torch.equal(kept, own[alive[k, b]])
    assert set(report.kept) == {stage.layer for stage in wanted.stages}
    assert torch.equal(report.tokens, alive.sum(2))
    assert torch.equal(report.visual_tokens, (alive & zoo.visual).sum(2))
    assert torch.equal(report.kv_entries[zoo.unbounded], report.tokens[zoo.unbounded])
    torch.testing.assert_close(logits[alive[-1]], expected.logits[alive[-1]], **TOLERANCE)
    torch.testing.assert_close(steps, expected.steps, **TOLERANCE)
    assert torch.equal(sequences, expected.sequences)
    assert report.active


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("family", families())
def test_keeping_everything_is_bit_identical(family: str, kernel: str) -> None:
    zoo = built(family)
    zoo.model.set_attn_implementation(kernel)
    dense = answer(zoo)
    with autoprune.apply(zoo.model, EVERYTHING) as patch:
        got = answer(zoo)
    for tensor, wanted in zip(got, dense, strict=True):
        assert torch.equal(tensor, wanted)
    assert patch.report.active


@pytest.mark.parametrize("family", families())
def test_the_model_would_show_an_error(family: str) -> None:
    """Visual tokens are unlike each other (but for newlines), and both they and their order reach the answer."""
    zoo = built(family)
    layer = layers_of(zoo.model)[0]
    states = []

    def last_logits(change: Any) -> Tensor:
        def before(_: Any, args: Any, kwargs: Any) -> Any:
            hidden = (args[0] if args else kwargs["hidden_states"]).clone()
            for b, visual in enumerate(zoo.visual):
                hidden[b, visual] = change(hidden[b, visual])
            states.append(hidden)
            return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})

        handle = layer.register_forward_pre_hook(before, with_kwargs=True)
        with torch.no_grad():
            logits = zoo.model(**zoo.inputs).logits[:, -1]
        handle.remove()
        return logits

    dense, reordered, without = (last_logits(change) for change in (lambda x: x, lambda x: x.flip(0), torch.zeros_like))
    for b, visual in enumerate(zoo.visual):
        assert len(states[0][b, visual].round(decimals=3).unique(dim=0)) > 0.75 * visual.sum()
        assert (dense[b] - reordered[b]).abs().max() > 100 * TOLERANCE["atol"]
        assert (dense[b] - without[b]).abs().max() > 100 * TOLERANCE["atol"]
