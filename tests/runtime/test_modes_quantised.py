"""int8 weights: pruning is exact on the quantised model, and the count of FLOPs does not see them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.reference import MaskedReference
from support.zoo import Zoo, llava, qwen2_5_vl

import autoprune
from autoprune import Schedule

quantization = pytest.importorskip("torchao.quantization", reason="int8 weights need torchao")
SCHEDULE = Schedule(
    stages=[
        {"layer": 1, "keep": {"ratio": 0.75}, "criterion": {"name": "attention", "rows": "text"}},
        {"layer": 3, "keep": {"ratio": 0.4}, "criterion": {"name": "attention", "rows": "last", "at": "current"}},
        {"layer": 5, "keep": {"ratio": 0.0}},
    ]
)


@pytest.mark.parametrize("family", [llava, qwen2_5_vl])
def test_int8_weight_only(family: Callable[..., Zoo]) -> None:
    zoo = family()
    options = {**zoo.inputs, "max_new_tokens": 5, "do_sample": False, "return_dict_in_generate": True}
    options |= {"output_logits": True}
    full = zoo.model.generate(**options).logits[0]
    cost = autoprune.cost(zoo.model.config, SCHEDULE)
    quantization.quantize_(zoo.model.get_decoder(), quantization.Int8WeightOnlyConfig())
    dense = zoo.model.generate(**options)
    assert float((dense.logits[0] - full).abs().max()) > 1e-4  # the weights are quantised
    with autoprune.apply(zoo.model, Schedule()):
        assert torch.equal(zoo.model.generate(**options).logits[0], dense.logits[0])
    with MaskedReference(zoo.model, SCHEDULE, zoo.visual, zoo.inputs["attention_mask"]):
        expected = zoo.model.generate(**options)
    with autoprune.apply(zoo.model, SCHEDULE) as patch:
        got = zoo.model.generate(**options)
    assert patch.report.active
    assert torch.equal(got.sequences, expected.sequences)
    torch.testing.assert_close(torch.stack(got.logits), torch.stack(expected.logits), atol=1e-4, rtol=0)
    assert autoprune.cost(zoo.model.config, SCHEDULE) == cost
