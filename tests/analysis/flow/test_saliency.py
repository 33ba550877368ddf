"""Saliency in closed form against plain autograd through stored attention maps."""

from __future__ import annotations

import weakref

import pytest
import torch
from support.reference import layers_of
from support.versions import needs
from support.zoo import CORE, FAMILIES
from support.zoo.lfm2_vl import lfm2_vl

from autoprune import presets
from autoprune.analysis.flow.saliency import flow_saliency, saliency_flows
from autoprune.errors import ModelError, PatchError
from autoprune.evaluate.encoding import force
from autoprune.runtime import apply
from autoprune.runtime.criteria.attention import ROW_CHUNK
from autoprune.runtime.tap import AttentionCall, Softmax

OTHERS = ("internvl", "mistral4", "video_llama_3", "lfm2_vl")
BUILD = {**{name: row.build for name, row in FAMILIES.items()}, "lfm2_vl": lfm2_vl}
ANSWERS = [[20, 30, 40], [50]]


def forced_batch(zoo):
    return force(zoo.model, zoo.inputs, ANSWERS, 0)


def by_autograd(zoo, forced):
    """Every map kept, its gradient by `retain_grad`, every entry of every head in turn: [B, L, 2, 2]."""
    model = zoo.model
    model.set_attn_implementation("eager")
    maps = {}

    def keep(i):
        def hook(module, args, output):
            output[1].retain_grad()
            maps[i] = output[1]

        return hook

    handles = [
        layer.self_attn.register_forward_hook(keep(i))
        for i, layer in enumerate(layers_of(model))
        if hasattr(layer, "self_attn")
    ]
    positions = model._prepare_position_ids_for_generation(forced.inputs["input_ids"], dict(forced.inputs))
    logits = model(**forced.inputs, position_ids=positions, use_cache=False).logits
    loss = 0
    for b, answer in enumerate(ANSWERS):
        rows = logits[b, -len(answer) :].double().log_softmax(-1)
        loss = loss - sum(rows[t, token] for t, token in enumerate(answer)) / len(answer)
    loss.backward()
    for handle in handles:
        handle.remove()
    ids, columns = forced.inputs["input_ids"], torch.arange(forced.inputs["input_ids"].shape[1])
    valid = forced.inputs["attention_mask"].bool()
    visual = torch.isin(ids, torch.tensor(zoo.placeholders)) & (columns < forced.ends[:, None])
    flows = torch.full((len(ids), len(layers_of(model)), 2, 2), float("nan"))
    for i, weights in maps.items():
        entries = (weights * weights.grad).abs()
        for b in range(len(ids)):
            kinds = [(valid & visual)[b].nonzero()[:, 0], (valid & ~visual)[b].nonzero()[:, 0]]
            for reader, rows in enumerate(kinds):
                for read, cols in enumerate(kinds):
                    flows[b, i, reader, read] = entries[b][:, rows][:, :, cols].sum()
    return flows


@pytest.mark.parametrize(
    "family",
    [
        *CORE,
        *(name for name in OTHERS if name not in CORE),
        pytest.param("gemma4", marks=needs("5.23", "Gemma 4's eager attention does not pass the attention interface")),
    ],
)
def test_equals_plain_autograd(family):
    zoo = BUILD[family]()
    forced = forced_batch(zoo)
    got = {}
    for attention in ("sdpa", "eager"):
        zoo.model.set_attn_implementation(attention)
        got[attention] = flow_saliency(zoo.model, forced)
    expected = by_autograd(zoo, forced)
    assert (expected[:, :, 1, 0].nan_to_num() > 0).any()
    for found in got.values():
        scale = expected.nan_to_num().max()
        torch.testing.assert_close(found.flows / scale, expected / scale, atol=2e-5, rtol=1e-3, equal_nan=True)
    assert not any(layer.__dict__.get("forward") for layer in layers_of(zoo.model))


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "internvl"])
def test_a_batch_is_its_samples(family):
    both, single = FAMILIES[family].build(), FAMILIES[family].build([[0, 1]])
    together = flow_saliency(both.model, forced_batch(both))
    alone = flow_saliency(single.model, force(single.model, single.inputs, ANSWERS[:1], 0))
    torch.testing.assert_close(together.flows[:1], alone.flows, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(together.loss[:1], alone.loss)
    assert together.tokens[0].tolist() == alone.tokens[0].tolist()
    assert int(together.tokens.sum()) == int(both.inputs["attention_mask"].sum()) + sum(len(a) - 1 for a in ANSWERS)


def test_one_attention_map_lives_at_a_time_and_nothing_of_the_model_changes():
    zoo = FAMILIES["llava"].build()
    zoo.model.set_attn_implementation("eager")
    before = {name: parameter.grad for name, parameter in zoo.model.named_parameters()}
    alive, most = weakref.WeakSet(), 0

    def count(module, args, output):
        nonlocal most
        alive.add(output[1])
        most = max(most, len(alive))

    handles = [layer.self_attn.register_forward_hook(count) for layer in layers_of(zoo.model)]
    flow_saliency(zoo.model, forced_batch(zoo))
    for handle in handles:
        handle.remove()
    assert most <= 2  # the one that runs, and the last one until it is let go
    assert all(parameter.grad is before[name] for name, parameter in zoo.model.named_parameters())


def test_a_weights_only_model_and_no_grad_around_it_change_nothing():
    zoo = FAMILIES["llava"].build()
    forced = forced_batch(zoo)
    plain = flow_saliency(zoo.model, forced).flows
    zoo.model.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(flow_saliency(zoo.model, forced).flows, plain)


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_capped_logits_sinks_and_more_rows_than_a_chunk(softcap, sinks):
    torch.manual_seed(0)
    n, heads, groups = ROW_CHUNK + 30, 4, 2
    query, key = torch.randn(1, heads, n, 8), torch.randn(1, groups, n, 8)
    value = torch.randn(1, groups, n, 6)
    sink = torch.randn(heads) if sinks else None
    gradient = torch.randn(1, n, heads, 6)
    visual = torch.zeros(1, n, dtype=torch.bool)
    visual[:, 5:200] = True
    logits = query @ key.repeat_interleave(2, 1).transpose(2, 3) * 0.7
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    logits = logits.masked_fill(~torch.ones(n, n, dtype=torch.bool).tril(), float("-inf"))
    if sinks:
        logits = torch.cat([logits, sink.view(1, -1, 1, 1).expand(1, heads, n, 1)], -1)
    weights = logits.softmax(-1)[..., :n].detach().requires_grad_()
    output = (weights @ value.repeat_interleave(2, 1)).transpose(1, 2)
    (slopes,) = torch.autograd.grad(output, weights, gradient)
    entries = (weights * slopes).abs().sum(1)[0]
    kinds = [visual[0], ~visual[0]]
    expected = torch.stack([torch.stack([entries[r][:, c].sum() for c in kinds]) for r in kinds])
    call = AttentionCall(query, key, value, None, Softmax(0.7, softcap, sink), output)
    got = saliency_flows(call, gradient, visual, torch.ones_like(visual))
    torch.testing.assert_close(got[0], expected, rtol=1e-4, atol=1e-3)


def test_what_cannot_be_measured_is_refused():
    zoo = FAMILIES["llava"].build()
    forced = forced_batch(zoo)
    zoo.model.get_decoder().layers[2].train()
    with pytest.raises(ModelError, match="training mode"):
        flow_saliency(zoo.model, forced)
    zoo.model.eval()
    with apply(zoo.model, presets.vtw(2)), pytest.raises(PatchError, match="not dense"):
        flow_saliency(zoo.model, forced)


def test_an_attention_that_passes_the_interface_by_is_named():
    zoo = FAMILIES["llava"].build()
    zoo.model.get_decoder().layers[3].self_attn.forward = lambda hidden_states, **kwargs: (hidden_states, None)
    with pytest.raises(PatchError, match="attention of layer 3 could not be observed"):
        flow_saliency(zoo.model, forced_batch(zoo))
