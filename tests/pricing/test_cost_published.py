"""The cost model against figures that others published or derived; pure arithmetic, no model is built."""

from __future__ import annotations

import pytest
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from autoprune import presets
from autoprune.pricing.architecture import Architecture
from autoprune.pricing.cost import Cost, cost
from autoprune.schedule import Schedule


def _vicuna(layers: int, hidden: int, heads: int, inner: int) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        vocab_size=32000,
    )


CONFIG_7B = _vicuna(32, 4096, 32, 11008)
CONFIG_13B = _vicuna(40, 5120, 40, 13824)
LLAVA_7B = LlavaConfig(
    text_config=CONFIG_7B,
    vision_config=CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    ),
)
# Decoder FLOPs of schedules on Vicuna 7B and 13B with 576 visual tokens, in per cent of dense, scoring left out:
# (7B, no text), (7B, 65 text tokens), (7B, 135), (13B, none), (13B, 65).
TABLE = {
    "FastV K2 R50": (presets.fastv(2, 0.5), (52.6, 57.3, 61.4, 52.1, 56.8)),
    "FastV K2 R75": (presets.fastv(2, 0.25), (29.3, 36.3, 42.4, 28.4, 35.6)),
    "FastV K3 R50": (presets.fastv(3, 0.5), (54.2, 58.7, 62.7, 53.3, 58.0)),
    "HiMAP 2/8": (presets.himap((2, 8)), (24.7, 32.2, 38.7, 22.3, 30.0)),
    "HiMAP 2/15": (presets.himap((2, 15)), (32.8, 39.5, 45.3, 28.8, 35.9)),
    "VTW K15": (presets.vtw(15), (46.9, 52.1, 56.7, 37.5, 43.7)),
    "VTW K16": (presets.vtw(16), (50.0, 55.0, 59.3, 40.0, 46.0)),
    "VTW K20": (presets.vtw(20), (62.5, 66.2, 69.5, 50.0, 55.0)),
    "PDrop 8/16/24": (presets.pyramiddrop(), (46.6, 51.9, 56.5, 39.8, 45.8)),
}
COLUMNS = ((CONFIG_7B, 0), (CONFIG_7B, 65), (CONFIG_7B, 135), (CONFIG_13B, 0), (CONFIG_13B, 65))


def _without_scoring(priced: Cost) -> float:
    return 100 * (priced.decoder_flops - priced.parts["scoring"]) / priced.decoder_flops_dense


@pytest.mark.parametrize(("schedule", "expected"), TABLE.values(), ids=TABLE)
def test_ratio_of_published_schedules(schedule: Schedule, expected: tuple[float, ...]) -> None:
    got = [_without_scoring(cost(config, schedule, 576, text)) for config, text in COLUMNS]
    assert got == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (presets.fastv(2, 0.5), (59.2, 62.7, 70.4)),
        (presets.himap((2, 8)), (35.1, 40.8, 52.9)),
        (presets.himap((2, 15)), (42.1, 47.2, 58.0)),
        (presets.vtw(16), (56.9, 60.7, 68.7)),
    ],
    ids=["fastv", "himap short", "himap long", "vtw"],
)
def test_end_to_end_ratio_with_tower_projector_head_and_generated_tokens(
    schedule: Schedule, expected: tuple[float, ...]
) -> None:
    got = [100 * cost(LLAVA_7B, schedule, 576, 65, new).ratio_end_to_end for new in (0, 64, 256)]
    # 0.2: the published figures stop the tower one layer early and count one decode step more.
    assert got == pytest.approx(expected, abs=0.2)


def test_absolute_cost_of_the_7b_model() -> None:
    priced = cost(LLAVA_7B, presets.dense(), 576, 0)
    assert priced.decoder_flops / 2 == pytest.approx(3.82e12, rel=2e-3)
    vision = Architecture.from_config(LLAVA_7B).vision
    assert vision is not None
    assert vision.tower_macs == pytest.approx(0.191e12, rel=1e-2)
    assert vision.projector_macs == pytest.approx(0.012e12, rel=2e-2)
    assert priced.parts["vision"] == 2 * (vision.tower_macs + vision.projector_macs)
    assert priced.parts["head"] == 2 * 4096 * 32000
    one_step = cost(LLAVA_7B, presets.dense(), 576, 65, 2).parts["decode"] / 2
    assert one_step == pytest.approx(6.78e9, rel=2e-3)
    assert priced.macs * 2 == priced.flops == priced.end_to_end_flops


def test_dense_schedule_costs_what_dense_costs() -> None:
    priced = cost(LLAVA_7B, presets.dense(), new_tokens=16)
    assert (priced.ratio, priced.ratio_end_to_end, priced.kv_ratio) == (1.0, 1.0, 1.0)
    assert priced.parts == priced.parts_dense


def test_scoring_is_small_for_one_row_and_counts_the_recomputed_projections() -> None:
    last = cost(CONFIG_7B, presets.fastv(2, 0.5), 576, 65)
    assert last.parts["scoring"] == 2 * 1 * 641 * 4096
    recomputed = cost(CONFIG_7B, presets.pyramiddrop((8,), (0.5,)), 576, 65)
    assert recomputed.parts["scoring"] == 2 * (641 * 4096 + 641 * 3 * 4096 * 4096)
    assert cost(CONFIG_7B, presets.vtw(16), 576, 65).parts["scoring"] == 0
    assert cost(CONFIG_7B, presets.random(2, 0.5, 0), 576, 65).parts["scoring"] == 0
