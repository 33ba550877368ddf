"""Prices of many schedules from shared tables, against `Pricer` sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import AutoConfig, PreTrainedConfig

from autoprune import presets
from autoprune.errors import DataError, ScheduleError
from autoprune.pricing.cost import Pricer
from autoprune.pricing.lookup import PriceLookup
from autoprune.pricing.tokens import PromptCounts, visual_alive
from autoprune.schedule import Criterion, Keep, Schedule, Stage, parse_criterion

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 99,
}
WINDOWS = {"head_dim": 16, "sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"] * 3}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "mlp_only_layers": [1]}
CONFIGS = {
    "llama": SIZES,
    "gemma3_text": SIZES | WINDOWS,
    "qwen2_moe": SIZES | EXPERTS | {"shared_expert_intermediate_size": 40},
}
COUNTS = [
    PromptCounts(visual=49, text=20, text_before=4, new=3),
    PromptCounts(visual=49, text=20, text_before=4, new=3),
    PromptCounts(visual=7, text=31, text_before=0, new=1),
    PromptCounts(visual=96, text=9, text_before=8, new=12),
    PromptCounts(visual=0, text=11, text_before=0, new=2),
]
SELECTING: list[dict[str, object]] = [
    *({"name": "attention", "rows": rows} for rows in ("last", "text", "visual", "all", "raters")),
    {"name": "attention", "rows": "text", "at": "current", "combine": "visual"},
    {"name": "diversity"},
    {"name": "encoder"},
    {"name": "codebook", "path": "book.safetensors", "sha256": "0" * 64, "prototypes": 8},
    {"name": "random", "seed": 1},
    {"name": "uniform"},
]


def config_of(kind: str) -> PreTrainedConfig:
    return AutoConfig.for_model(kind, **CONFIGS[kind])


def ratio(layer: int, keep: float, criterion: Criterion | None = None, merge: bool = False) -> Stage:
    return Stage(layer=layer, keep=Keep(ratio=keep), criterion=criterion, merge="mean" if merge else None)


def schedules() -> list[Schedule]:
    found = [Schedule(), *(Schedule(stages=(ratio(layer, 0.0),)) for layer in range(6))]
    for values in SELECTING:
        criterion = parse_criterion(values)
        for merge in (False, True):
            first, last = ratio(1, 0.5, criterion, merge), ratio(4, 0.125, criterion, merge)
            found += [Schedule(stages=(first,)), Schedule(stages=(first, last)), Schedule(stages=(first, ratio(5, 0)))]
    text, last = parse_criterion("text"), parse_criterion("last")
    counted = Stage(layer=2, keep=Keep(count=20), criterion=text)
    found += [
        Schedule(stages=(counted, ratio(4, 0.5, last))),  # half of 49 is more than 20, half of 7 is not
        Schedule(stages=(ratio(1, 0.1, last), counted)),
        Schedule(stages=(ratio(1, 1.0), counted, ratio(3, 0.05, text))),
        Schedule(stages=(ratio(1, 0.5, text),), positions="compact"),
    ]
    return found


def summed(config: PreTrainedConfig, schedule: Schedule) -> tuple[int, int]:
    pricer = Pricer(config, 2)
    each = [pricer.price(schedule, c, visual_alive(schedule, c.visual, None)[1:]) for c in COUNTS]
    return sum(price.decoder_flops for price in each), sum(price.kv_bytes for price in each)


@pytest.mark.parametrize("kind", CONFIGS)
def test_equal_to_the_sum_of_single_prices(kind: str) -> None:
    config = config_of(kind)
    lookup = PriceLookup(config, COUNTS, dtype_bytes=2)
    dense = summed(config, Schedule())
    assert (lookup.dense.flops, lookup.dense.kv_bytes) == dense
    for schedule in schedules():
        flops, kv_bytes = summed(config, schedule)
        priced = lookup.price(schedule)
        assert (priced.flops, priced.kv_bytes) == (flops, kv_bytes), schedule.stages
        assert lookup.flops_ratios([schedule]) == [flops / dense[0]]
        assert lookup.kv_ratios([schedule]) == [kv_bytes / dense[1]]


def test_presets_that_keep_by_count_are_priced() -> None:
    lookup = PriceLookup(config_of("llama"), COUNTS, dtype_bytes=2)
    for name in ("fastv", "divprune", "visionzip", "pyramiddrop", "vtw"):
        schedule = presets.resolve(name, 6)
        assert lookup.price(schedule).flops == summed(config_of("llama"), schedule)[0]


def test_tokens_alive_are_means_over_the_rows() -> None:
    lookup = PriceLookup(config_of("llama"), COUNTS, dtype_bytes=2)
    text = parse_criterion("text")
    schedule = Schedule(stages=(ratio(1, 0.5, text), ratio(4, 0.0)))
    halves = np.mean([round(0.5 * c.visual) for c in COUNTS])
    assert lookup.alive(schedule) == pytest.approx([lookup.visual_tokens, halves, 0])
    assert lookup.visual_tokens == pytest.approx(np.mean([c.visual for c in COUNTS]))


def test_what_the_input_decides_has_no_price() -> None:
    lookup = PriceLookup(config_of("llama"), COUNTS, dtype_bytes=2)
    adaptive = Stage(layer=2, keep=Keep(mass=0.9), criterion=parse_criterion("text"))
    with pytest.raises(ScheduleError, match=r"keep\.mass"):
        lookup.price(Schedule(stages=(adaptive,)))


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no row"):
        PriceLookup(config_of("llama"), [], dtype_bytes=2)
