"""The authors' own code of VTW, HiMAP and FastV, met to 1e-4, with kept indices and KV lengths exact."""

from __future__ import annotations

import pytest
import torch
from support.golden import Golden, load
from transformers import DynamicCache

import autoprune
from autoprune import Schedule, presets

ATTENTION = ("eager", "sdpa")
TOLERANCE = {"atol": 1e-4, "rtol": 0}


def visual(rows: str) -> dict:
    return {"name": "attention", "rows": rows}


def counts(*stages: tuple[int, int, str]) -> Schedule:
    return Schedule(stages=[{"layer": k, "keep": {"count": n}, "criterion": visual(rows)} for k, n, rows in stages])


VTW = [("k2", 2), ("k5", 5), ("k7", 7)]
HIMAP = [
    ("himap_mha", "k2_24_k5_8", counts((2, 24, "text"), (5, 8, "visual"))),
    ("himap_mha", "k1_36_k3_12", counts((1, 36, "text"), (3, 12, "visual"))),
    ("himap_edges", "k1_15_only", counts((1, 15, "text"))),
    ("himap_edges", "k3_30_k4_4", counts((3, 30, "text"), (4, 4, "visual"))),
    ("himap_edges", "k2_9_k5_1", counts((2, 9, "text"), (5, 1, "visual"))),
]
FASTV = [("fastv_b_mha", "k2_r50", presets.fastv(2, 0.5)), ("fastv_b_mha", "k3_r75", presets.fastv(3, 0.25))]


def prefill(golden: Golden, schedule: Schedule):
    """Patched prefill with cache: (patch, logits of the last token, normed hidden states of survivors, cache)."""
    embeds = golden.tensor("inputs_embeds")
    patch = autoprune.apply(golden.model, schedule, golden.visual_mask(embeds.shape[1]))
    cache = DynamicCache(config=golden.model.config)
    with torch.no_grad():
        out = golden.model(inputs_embeds=embeds, past_key_values=cache, use_cache=True, output_hidden_states=True)
    return patch, out.logits[0, -1], out.hidden_states[-1][0], cache


def decode(golden: Golden, cache: DynamicCache, tokens: torch.Tensor) -> torch.Tensor:
    rows = []
    for token in tokens:
        with torch.no_grad():
            out = golden.model(input_ids=token.view(1, 1), past_key_values=cache, use_cache=True)
        rows.append(out.logits[0, -1])
    return torch.stack(rows)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize(("run", "layer"), VTW)
def test_vtw(run: str, layer: int, attention: str) -> None:
    golden = load("vtw_mha_s631", attention)
    patch, logits, hidden, cache = prefill(golden, presets.vtw(layer))
    kept = golden.tensor(f"{run}/kept")
    assert torch.equal(patch.report.kept[layer][0], kept)
    torch.testing.assert_close(logits, golden.tensor(f"{run}/logits_last"), **TOLERANCE)
    torch.testing.assert_close(hidden[kept], golden.tensor(f"{run}/hidden_final_normed"), **TOLERANCE)
    assert patch.report.kv_entries[:, 0].tolist() == golden.facts["runs"][run]["kv_len_per_layer_after_prefill"]
    steps = decode(golden, cache, golden.tensor(f"{run}/dec_tokens"))
    torch.testing.assert_close(steps, golden.tensor(f"{run}/dec_logits")[1:], **TOLERANCE)
    lengths = [layer.keys.shape[-2] for layer in cache.layers]
    assert lengths == golden.tensor(f"{run}/dec_kvlen_per_layer")[-1].tolist()


@pytest.mark.parametrize("attention", ATTENTION)
def test_vtw_with_compact_positions(attention: str) -> None:
    golden = load("vtw_mha_s631", attention)
    compact = presets.vtw(5).model_copy(update={"positions": "compact"})
    patch, logits, hidden, cache = prefill(golden, compact)
    kept = golden.tensor("k5_reset/kept")
    assert torch.equal(patch.report.kept[5][0], kept)
    torch.testing.assert_close(logits, golden.tensor("k5_reset/logits_last"), **TOLERANCE)
    torch.testing.assert_close(hidden[kept], golden.tensor("k5_reset/hidden_final_normed"), **TOLERANCE)
    steps = decode(golden, cache, golden.tensor("k5_reset/dec_tokens"))
    torch.testing.assert_close(steps, golden.tensor("k5_reset/dec_logits")[1:], **TOLERANCE)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize(("case", "run", "schedule"), HIMAP, ids=lambda v: v if isinstance(v, str) else "")
def test_himap(case: str, run: str, schedule: Schedule, attention: str) -> None:
    golden = load(case, attention)
    patch, logits, hidden, cache = prefill(golden, schedule)
    for number, stage in enumerate(schedule.stages, start=1):
        assert torch.equal(patch.report.kept[stage.layer][0], golden.tensor(f"{run}/kept_stage{number}"))
    torch.testing.assert_close(logits, golden.tensor(f"{run}/logits_last"), **TOLERANCE)
    survivors = patch.report.kept[schedule.stages[-1].layer][0]
    torch.testing.assert_close(hidden[survivors], golden.tensor(f"{run}/hidden_final_normed"), **TOLERANCE)
    lengths = [layer.keys.shape[-2] for layer in cache.layers]
    assert lengths == golden.facts["runs"][run]["use_cache_kv_len"] == patch.report.kv_entries[:, 0].tolist()


@pytest.mark.parametrize("attention", ATTENTION)
def test_fastv_drop(attention: str) -> None:
    golden = load("fastv_a_mha_r50", attention)
    patch, logits, hidden, _ = prefill(golden, counts((2, 24, "last")))
    for run in ("drop_k2_r50", "mask_k2_r50"):
        assert torch.equal(patch.report.kept[2][0], golden.tensor(f"{run}/kept"))
        torch.testing.assert_close(logits, golden.tensor(f"{run}/logits_last"), **TOLERANCE)
    torch.testing.assert_close(
        hidden[patch.report.kept[2][0]], golden.tensor("drop_k2_r50/hidden_final_normed"), **TOLERANCE
    )


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize(("case", "run", "schedule"), FASTV, ids=lambda v: v if isinstance(v, str) else "")
def test_fastv_with_cache(case: str, run: str, schedule: Schedule, attention: str) -> None:
    golden = load(case, attention)
    patch, logits, _, cache = prefill(golden, schedule)
    assert torch.equal(patch.report.kept[schedule.stages[0].layer][0], golden.tensor(f"{run}/kept"))
    torch.testing.assert_close(logits, golden.tensor(f"{run}/logits_last"), **TOLERANCE)
    lengths = [layer.keys.shape[-2] for layer in cache.layers]
    assert lengths == golden.facts["runs"][run]["kv_len_after_prefill"]
    steps = decode(golden, cache, golden.tensor(f"{run}/cache_dec_tokens"))
    torch.testing.assert_close(steps, golden.tensor(f"{run}/cache_dec_logits")[1:], **TOLERANCE)


def test_generate_repeats_the_authors_greedy_answer() -> None:
    golden = load("vtw_mha_s631", "sdpa")
    embeds = golden.tensor("inputs_embeds")
    for run, layer in VTW:
        with autoprune.apply(golden.model, presets.vtw(layer), golden.visual_mask(embeds.shape[1])):
            out = golden.model.generate(inputs_embeds=embeds, max_new_tokens=6, do_sample=False)
        assert out[0].tolist() == golden.tensor(f"{run}/dec_tokens").tolist()
