"""The all-layer sweep: equal to the authors' search, and to one patched run per layer on every family."""

from __future__ import annotations

import pytest
import torch
from support.golden import load
from support.zoo import CORE, llama, llava

import autoprune
from autoprune import presets
from autoprune.analysis import withdrawal_kl
from autoprune.errors import DataError


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_equals_the_search_of_vtw(attention: str) -> None:
    golden = load("vtw_findk_mha12", attention)
    samples = []
    for i in range(3):
        embeds = golden.tensor(f"s{i}/inputs_embeds")
        samples.append({"inputs_embeds": embeds, "visual_mask": golden.visual_mask(embeds.shape[1])})
    kl = withdrawal_kl(golden.model, samples)
    assert kl.shape == (3, 12)
    wanted = golden.tensor("KL_di_total").float()
    torch.testing.assert_close(kl[:, 5:], wanted, atol=1e-4, rtol=0)
    means = kl[:, 5:].mean(0)
    for eta, chosen in golden.facts["selection"].items():
        below = (means <= float(eta)).nonzero()
        if isinstance(chosen, int):
            assert 5 + int(below[0]) == chosen
        else:
            assert len(below) == 0


def one_patched_run_per_layer(model, inputs, visual_mask=None) -> torch.Tensor:
    with torch.no_grad():
        dense = model(**inputs).logits[0, -1].log_softmax(-1)
        rows = []
        for k in range(6):
            with autoprune.apply(model, presets.vtw(k), visual_mask):
                log = model(**inputs).logits[0, -1].log_softmax(-1)
            rows.append((log.exp() * (log - dense)).sum())
    return torch.stack(rows)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", CORE)
def test_equals_one_patched_run_per_layer(family: str, attention: str) -> None:
    zoo = CORE[family].build([[0, 1]])
    zoo.model.set_attn_implementation(attention)
    hooks = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in zoo.model.get_decoder().modules())
    got = withdrawal_kl(zoo.model, [zoo.inputs])
    expected = one_patched_run_per_layer(zoo.model, zoo.inputs)
    torch.testing.assert_close(got[0], expected, atol=1e-5, rtol=1e-4)
    assert hooks == sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in zoo.model.get_decoder().modules())
    assert all("forward" not in layer.__dict__ for layer in zoo.model.get_decoder().layers)


def test_nothing_before_the_image() -> None:
    model = llama()
    mask = torch.zeros(1, 12, dtype=torch.bool)
    mask[:, :7] = True
    inputs = {"inputs_embeds": torch.randn(1, 12, 64)}
    got = withdrawal_kl(model, [{**inputs, "visual_mask": mask}])
    torch.testing.assert_close(got[0], one_patched_run_per_layer(model, inputs, mask), atol=1e-5, rtol=1e-4)


def test_bad_samples_are_named() -> None:
    zoo = llava()
    with pytest.raises(DataError, match="at least one"):
        withdrawal_kl(zoo.model, [])
    with pytest.raises(DataError, match="not a batch"):
        withdrawal_kl(zoo.model, [zoo.inputs])
    with pytest.raises(DataError, match="no visual token"):
        withdrawal_kl(zoo.model, [{"input_ids": torch.randint(10, 99, (1, 8))}])
    padded = {"input_ids": torch.randint(10, 99, (1, 8)), "attention_mask": torch.tensor([[1] * 6 + [0] * 2])}
    with pytest.raises(DataError, match="padded at its end"):
        withdrawal_kl(zoo.model, [padded])
