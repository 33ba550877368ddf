"""The contract every family meets: a patched model equals the masked reference, wherever it prunes."""

from __future__ import annotations

import pytest
import torch
from support.reference import MaskedReference
from support.zoo import FAMILIES, Zoo

import autoprune
from autoprune import Schedule, presets


def attention(rows: str, **options: str) -> dict:
    return {"name": "attention", "rows": rows, **options}


def schedule(*stages: tuple) -> Schedule:
    return Schedule(stages=[{"layer": k, "keep": keep, "criterion": criterion} for k, keep, criterion in stages])


SCHEDULES = {
    "withdraw@0": presets.vtw(0),
    "withdraw@1": presets.vtw(1),
    "withdraw@5": presets.vtw(5),
    "fastv@2": presets.fastv(2, 0.5),
    "himap": presets.himap((2, 4), (0.5, 0.125)),
    "pyramiddrop": presets.pyramiddrop((1, 3, 5), (0.5, 0.25, 0.125)),
    "four stages": schedule(
        (1, {"ratio": 0.75}, attention("text")),
        (3, {"ratio": 0.4}, attention("visual", normalize="causal")),
        (4, {"count": 3}, attention("all", heads="max", reduce="mean")),
        (5, {"ratio": 0.0}, None),
    ),
    "mass": schedule((2, {"mass": 0.6}, attention("text", heads="sum")), (4, {"mass": 0.5}, attention("last"))),
    "threshold": schedule((3, {"threshold": 0.02}, attention("last"))),
    "at layer 0": schedule(
        (0, {"ratio": 0.6}, attention("last", at="current")), (3, {"ratio": 0.2}, attention("text"))
    ),
    "random": presets.random(1, 0.4, 3),
    "uniform": presets.uniform(0, 0.3),
    "diversity": schedule((0, {"ratio": 0.5}, {"name": "diversity"}), (3, {"count": 4}, {"name": "diversity"})),
}
TOLERANCE = {"atol": 1e-4, "rtol": 0}


@pytest.fixture(scope="module", params=FAMILIES)
def zoo(request: pytest.FixtureRequest) -> Zoo:
    return FAMILIES[request.param].build()


def greedy(zoo: Zoo, steps: int = 6, **options: object):
    with torch.no_grad():
        out = zoo.model.generate(
            **zoo.inputs,
            max_new_tokens=steps,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            **options,
        )
    return out.sequences, torch.stack(out.logits, 1)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_equals_the_masked_reference(zoo: Zoo, name: str, implementation: str) -> None:
    wanted = SCHEDULES[name]
    with MaskedReference(zoo.model, wanted, zoo.visual, zoo.inputs["attention_mask"]) as reference:
        with torch.no_grad():
            full = zoo.model(**zoo.inputs).logits
        tokens, steps = greedy(zoo)
    zoo.model.set_attn_implementation(implementation)
    with autoprune.apply(zoo.model, wanted) as patch:
        with torch.no_grad():
            logits = zoo.model(**zoo.inputs).logits
        got_tokens, got_steps = greedy(zoo)
        report = patch.report
    last = wanted.stages[-1].layer
    alive = zoo.inputs["attention_mask"].bool() & ~reference.dead[last]
    torch.testing.assert_close(logits[alive], full[alive], **TOLERANCE)
    torch.testing.assert_close(got_steps, steps, **TOLERANCE)
    assert torch.equal(got_tokens, tokens)
    valid = zoo.inputs["attention_mask"].bool()
    for k, samples in report.kept.items():
        for b, kept in enumerate(samples):
            own = valid[b].cumsum(0) - 1
            assert torch.equal(kept, own[valid[b] & ~reference.dead[k][b]])
    for i in range(len(zoo.model.get_decoder().layers)):
        dead = reference.dead[i]
        assert torch.equal(report.tokens[i], (valid & ~dead).sum(1))
        assert torch.equal(report.visual_tokens[i], (zoo.visual & ~dead).sum(1))
    assert report.active


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_keeping_everything_is_bit_identical(zoo: Zoo, implementation: str) -> None:
    everything = schedule(
        (1, {"count": 10_000}, attention("text")), (3, {"ratio": 1.0}, None), (4, {"ratio": 1.0}, None)
    )
    zoo.model.set_attn_implementation(implementation)
    with torch.no_grad():
        dense = zoo.model(**zoo.inputs).logits
    tokens, steps = greedy(zoo)
    with autoprune.apply(zoo.model, everything) as patch:
        with torch.no_grad():
            logits = zoo.model(**zoo.inputs).logits
        got_tokens, got_steps = greedy(zoo)
    assert torch.equal(logits, dense)
    assert torch.equal(got_tokens, tokens)
    assert torch.equal(got_steps, steps)
    assert patch.report.active
