"""The all-layer sweep: equal to the authors' search, and to one patched run per layer on every family."""

from __future__ import annotations

import pytest
import torch
from support.flops import count_flops, countable_attention
from support.golden import load
from support.zoo import CORE, FAMILIES, HYBRIDS, llama, llava
from torch.nn.functional import kl_div

import autoprune
from autoprune import presets
from autoprune.analysis import withdrawal_kl, withdrawal_sweep
from autoprune.errors import AutopruneError, DataError, ModelError

ROWS = {
    **CORE,
    **{
        name: FAMILIES[name] for name in ("gemma4", "paligemma", "qwen2_5_vl_video")
    },  # inputs by layer; a prefix-LM; frames
    **{name: HYBRIDS[name] for name in ("lfm2_vl", "qwen3_5")},  # layers with a state
}
MEASURES = ("withdrawn_dense", "dense_withdrawn", "js")


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


def forced_logits(model, inputs, answer) -> torch.Tensor:
    """Logits [T, V] that predict an answer, fed to the model token by token after the prompt."""
    with torch.no_grad():
        out = model(**inputs, use_cache=True)
        rows = [out.logits[0, -1]]
        for token in answer[:-1]:
            out = model(input_ids=torch.tensor([[token]]), past_key_values=out.past_key_values, use_cache=True)
            rows.append(out.logits[0, -1])
    return torch.stack(rows)


def distances(withdrawn, dense) -> dict[str, torch.Tensor]:
    p, q = withdrawn.softmax(-1), dense.softmax(-1)
    mixed = (p + q) / 2

    def kl(a, b):
        return kl_div(b.log(), a, reduction="none").sum(-1)

    return {"withdrawn_dense": kl(p, q), "dense_withdrawn": kl(q, p), "js": (kl(p, mixed) + kl(q, mixed)) / 2}


def one_patched_run_per_layer(model, inputs, answer, visual_mask=None) -> dict[str, torch.Tensor]:
    """Each measure as a tensor [L, T]; `same` [L]."""
    dense = forced_logits(model, inputs, answer)
    found = {name: [] for name in (*MEASURES, "same")}
    for k in range(model.config.get_text_config(decoder=True).num_hidden_layers):
        with autoprune.apply(model, presets.vtw(k), visual_mask):
            withdrawn = forced_logits(model, inputs, answer)
        for name, values in distances(withdrawn, dense).items():
            found[name].append(values)
        found["same"].append((withdrawn.argmax(-1) == dense.argmax(-1)).all().float())
    return {name: torch.stack(values) for name, values in found.items()}


def traces(model) -> list:
    """Hooks and shadowed methods (vision towers grow hooks of their own when they first run)."""
    shadows = ("forward", "generate", "get_placeholder_mask")
    return [
        (len(m._forward_pre_hooks), len(m._forward_hooks), [name for name in shadows if name in m.__dict__])
        for m in (model, *model.get_decoder().modules())
    ]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ROWS)
def test_equals_one_patched_run_per_layer(family: str, attention: str) -> None:
    zoo = ROWS[family].build([[0, 1]])
    zoo.model.set_attn_implementation(attention)
    before = traces(zoo.model)
    got = withdrawal_sweep(zoo.model, [zoo.inputs], max_new_tokens=3)
    assert traces(zoo.model) == before
    answer = got.answers[0]
    with torch.no_grad():
        said = zoo.model.generate(**zoo.inputs, max_new_tokens=3, do_sample=False)
    assert answer == said[0, zoo.inputs["input_ids"].shape[1] :].tolist()
    expected = one_patched_run_per_layer(zoo.model, zoo.inputs, answer)
    assert expected["js"].max() > 0.001, "withdrawal must be felt"
    for name in MEASURES:
        torch.testing.assert_close(getattr(got.first, name)[0], expected[name][:, 0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(getattr(got.answer, name)[0], expected[name].mean(1), atol=1e-5, rtol=1e-4)
        assert getattr(got.noise, name)[0] < 1e-6
    torch.testing.assert_close(got.same[0], expected["same"])
    first = withdrawal_kl(zoo.model, [zoo.inputs])
    torch.testing.assert_close(first, got.first.withdrawn_dense, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("visual", [slice(0, 7), slice(3, 7)], ids=["nothing before the image", "text before it"])
def test_embeddings_with_a_mask(visual: slice) -> None:
    model = llama()
    mask = torch.zeros(1, 12, dtype=torch.bool)
    mask[:, visual] = True
    inputs = {"inputs_embeds": torch.randn(1, 12, 64)}
    got = withdrawal_sweep(model, [{**inputs, "visual_mask": mask}], max_new_tokens=3)
    expected = one_patched_run_per_layer(model, inputs, got.answers[0], lambda ids, e: mask[:, : e.shape[1]])
    torch.testing.assert_close(got.answer.js[0], expected["js"].mean(1), atol=1e-5, rtol=1e-4)


def test_many_samples_in_order() -> None:
    zoos = [llava([[0]]), llava([[0, 1]])]
    model = zoos[0].model
    got = withdrawal_sweep(model, [z.inputs for z in zoos], max_new_tokens=2)
    assert [visual.tolist() for visual in got.visual] == [z.visual[0].tolist() for z in zoos]
    alone = withdrawal_sweep(model, [zoos[1].inputs], max_new_tokens=2)
    torch.testing.assert_close(got.answer.js[1], alone.answer.js[0])
    assert got.first.js.shape == got.same.shape == (2, 6)
    assert got.noise.js.shape == (2,)


@pytest.mark.parametrize(("text_before", "text_after"), [(30, 12), (0, 40)])
def test_costs_one_dense_pass_and_short_tails(text_before: int, text_after: int) -> None:
    model, visual = llama(), 200
    length = text_before + visual + text_after
    mask = torch.zeros(1, length, dtype=torch.bool)
    mask[:, text_before : text_before + visual] = True
    inputs = {"inputs_embeds": torch.randn(1, length, 64)}
    with countable_attention(model, "eager"):
        dense = count_flops(lambda: model(**inputs, logits_to_keep=1))
        sweep = count_flops(lambda: withdrawal_kl(model, [{**inputs, "visual_mask": mask}]))
    layers = model.config.num_hidden_layers
    assert sweep / dense <= 1.15 * (1 + (layers + 1) / 2 * text_after / length)


def test_no_call_is_longer_than_the_dense_one() -> None:
    """Memory: tails run together only as far as they are no longer than the prompt."""
    zoo, sizes = llava([[0]]), []
    layer = zoo.model.get_decoder().layers[-1]
    handle = layer.mlp.register_forward_pre_hook(lambda module, args: sizes.append(args[0].shape[:2].numel()))
    withdrawal_kl(zoo.model, [zoo.inputs])
    handle.remove()
    assert len(sizes) > 2
    assert max(sizes) == zoo.inputs["input_ids"].shape[1]


def test_bad_samples_are_named_before_anything_runs() -> None:
    zoo = llava([[0]])
    handle = zoo.model.register_forward_pre_hook(lambda *call: pytest.fail("the model ran"))
    ids = torch.randint(10, 99, (1, 8))
    padded = {"input_ids": ids, "attention_mask": torch.tensor([[1] * 6 + [0] * 2])}
    nothing_visual = {"inputs_embeds": torch.randn(1, 8, 64), "visual_mask": torch.zeros(1, 8, dtype=torch.bool)}
    bad = {
        r"samples\[1\]: must hold one sample, not a batch": llava().inputs,
        r"samples\[1\]: has no visual token": {"input_ids": ids},
        r"samples\[1\]: has no visual token.*image": nothing_visual,
        r"samples\[1\]: must not be padded at its end": padded,
        r"samples\[1\]: has neither input_ids nor": {"pixel_values": torch.zeros(1, 3, 16, 16)},
    }
    for message, sample in bad.items():
        for measure in (withdrawal_kl, withdrawal_sweep):
            with pytest.raises(DataError, match=message):
                measure(zoo.model, [zoo.inputs, sample])
    for measure in (withdrawal_kl, withdrawal_sweep):
        with pytest.raises(DataError, match="at least one"):
            measure(zoo.model, [])
    with pytest.raises(DataError, match="max_new_tokens: must be at least 1"):
        withdrawal_sweep(zoo.model, [zoo.inputs], max_new_tokens=0)
    zoo.model.train()
    for measure in (withdrawal_kl, withdrawal_sweep):
        with pytest.raises(ModelError, match=r"training mode.*model\.eval\(\)"):
            measure(zoo.model, [zoo.inputs])
    handle.remove()


def test_a_prompt_that_ends_in_the_image_is_refused_and_leaves_no_trace() -> None:
    zoo = llava([[0]])
    before = traces(zoo.model)
    cut = {**zoo.inputs, "input_ids": zoo.inputs["input_ids"][:, :20], "attention_mask": None}
    assert zoo.visual[0, 19]
    with pytest.raises(AutopruneError, match="must end in text"):
        withdrawal_kl(zoo.model, [{**cut, "pixel_values": zoo.inputs["pixel_values"]}])
    assert traces(zoo.model) == before


def test_logits_that_are_not_finite_are_an_error() -> None:
    zoo = llava([[0]])
    with torch.no_grad():
        zoo.model.get_decoder().norm.weight[0] = float("nan")
    with pytest.raises(AutopruneError, match="non-finite"):
        withdrawal_kl(zoo.model, [zoo.inputs])
