"""Kernels that cap logits or leave weight to a sink: scores are those of the maps that the model itself gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from support.reference import MaskedReference
from support.zoo.base import TEXT, finish

import autoprune
from autoprune import Schedule


def gemma2() -> Any:
    """Logits capped so tightly that it changes who is kept; sliding windows shorter than the prompt."""
    config = hf.Gemma2Config(
        **TEXT, head_dim=16, attn_logit_softcapping=0.5, sliding_window=16, query_pre_attn_scalar=1
    )
    return finish(hf.Gemma2ForCausalLM(config))


def gpt_oss() -> Any:
    """Sinks that take most of the weight."""
    options = {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    }
    model = finish(hf.GptOssForCausalLM(hf.GptOssConfig(**TEXT, head_dim=16, **options)))
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.sinks, mean=3.0, std=2.0)
    return model


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("build", [gemma2, gpt_oss])
def test_scores_are_those_of_the_models_own_maps(build: Any, threshold: float) -> None:
    torch.manual_seed(0)
    model = build()
    model.set_attn_implementation("eager")
    ids = torch.randint(10, 100, (1, 30))
    visual = torch.zeros(1, 30, dtype=torch.bool)
    visual[:, 3:23] = True
    # A threshold, since a share of the tokens would not see that all scores are too high.
    criterion = {"name": "attention", "rows": "text", "heads": "max"}
    wanted = Schedule(
        stages=[
            {"layer": 1, "keep": {"threshold": threshold}, "criterion": criterion},
            {"layer": 3, "keep": {"threshold": threshold}, "criterion": {**criterion, "at": "current"}},
        ]
    )
    with torch.no_grad():
        with MaskedReference(model, wanted, visual, torch.ones(1, 30)) as reference:
            expected = model(input_ids=ids).logits[:, -1]
        with autoprune.apply(model, wanted, visual) as patch:
            got = model(input_ids=ids).logits[:, -1]
    for k in (1, 3):
        assert torch.equal(patch.report.kept[k][0], (~reference.dead[k][0]).nonzero()[:, 0])
    assert 10 < len(patch.report.kept[1][0]) < 30
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
