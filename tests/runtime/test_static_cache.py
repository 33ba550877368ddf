"""Static caches: survivors come first in a preallocated buffer, the entries behind them stay masked until written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.reference import MaskedReference
from support.zoo import gemma3, llava, qwen2_5_vl
from support.zoo.base import Zoo
from transformers import StaticCache

import autoprune
from autoprune import Schedule, presets
from autoprune.errors import PatchError

FAMILIES = [llava, qwen2_5_vl, gemma3]
STAGES = {"name": "attention", "rows": "text"}
THREE = Schedule(
    stages=[
        {"layer": 1, "keep": {"ratio": 0.75}, "criterion": STAGES},
        {"layer": 3, "keep": {"ratio": 0.4}, "criterion": {"name": "attention", "rows": "last"}},
        {"layer": 5, "keep": {"ratio": 0.0}},
    ]
)
AT_ZERO = Schedule(
    stages=[
        {"layer": 0, "keep": {"ratio": 0.5}, "criterion": {"name": "attention", "rows": "last", "at": "current"}},
        {"layer": 4, "keep": {"count": 3}, "criterion": {"name": "uniform"}},
    ]
)


def generate(zoo: Zoo, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        out = zoo.model.generate(
            **zoo.inputs,
            max_new_tokens=8,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            disable_compile=True,
            **options,
        )
    return out.sequences, torch.stack(out.logits, 1)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("wanted", [THREE, AT_ZERO], ids=["three stages", "at layer 0"])
@pytest.mark.parametrize("family", FAMILIES)
def test_generate_equals_the_masked_reference(
    family: Callable[..., Zoo], wanted: Schedule, implementation: str
) -> None:
    zoo = family()
    with MaskedReference(zoo.model, wanted, zoo.visual, zoo.inputs["attention_mask"]):
        tokens, logits = generate(zoo)
    zoo.model.set_attn_implementation(implementation)
    with autoprune.apply(zoo.model, wanted) as patch:
        for _ in range(2):  # generate() takes the same buffers again
            got_tokens, got_logits = generate(zoo, cache_implementation="static")
            assert torch.equal(got_tokens, tokens)
            torch.testing.assert_close(got_logits, logits, atol=1e-4, rtol=0)
        kinds = getattr(zoo.model.config.get_text_config(), "layer_types", None) or ["full_attention"] * 6
        window = torch.tensor([24 if kind == "sliding_attention" else 1000 for kind in kinds])
        assert torch.equal(patch.report.kv_entries, patch.report.tokens.minimum(window[:, None]))


@pytest.mark.parametrize("rows", ["text", "visual"])
def test_free_entries_take_no_part_in_scores_where_the_kernel_gets_no_mask(rows: str) -> None:
    zoo = llava([[0]])  # no padding, so that sdpa goes by its own causal rule
    wanted = Schedule(stages=[{"layer": 1, "keep": {"ratio": 0.5}, "criterion": {"name": "attention", "rows": rows}}])
    with MaskedReference(zoo.model, wanted, zoo.visual, zoo.inputs["attention_mask"]):
        tokens, logits = generate(zoo)
    with autoprune.apply(zoo.model, wanted):
        got_tokens, got_logits = generate(zoo, cache_implementation="static")
    assert torch.equal(got_tokens, tokens)
    torch.testing.assert_close(got_logits, logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_buffers_serve_the_dense_model_again(family: Callable[..., Zoo]) -> None:
    zoo = family()
    dense = generate(zoo)
    with autoprune.apply(zoo.model, THREE):
        generate(zoo, cache_implementation="static")
    tokens, logits = generate(zoo, cache_implementation="static")
    assert torch.equal(tokens, dense[0])
    torch.testing.assert_close(logits, dense[1], atol=1e-4, rtol=0)


def test_a_pruned_buffer_does_not_go_on_without_the_patch() -> None:
    zoo = llava([[0]])
    cache = StaticCache(config=zoo.model.config.get_text_config(), max_cache_len=64)
    with torch.no_grad():
        with autoprune.apply(zoo.model, presets.vtw(2)):
            zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
        with pytest.raises(PatchError, match="no longer patched"):
            zoo.model(input_ids=torch.tensor([[40]]), past_key_values=cache, use_cache=True)


@pytest.mark.parametrize("at", ["previous", "current"])
def test_an_image_in_a_later_turn_is_scored_with_the_cached_keys(at: str) -> None:
    zoo = llava([[0]])
    criterion = {"name": "attention", "rows": "text", "heads": "max", "at": at}
    wanted = Schedule(stages=[{"layer": 2, "keep": {"threshold": 0.2}, "criterion": criterion}])
    ids, pixels = zoo.inputs["input_ids"], zoo.inputs["pixel_values"]
    more = torch.randint(10, 100, (1, 30), generator=torch.Generator().manual_seed(2))
    cache = StaticCache(config=zoo.model.config.get_text_config(), max_cache_len=80)
    with torch.no_grad(), autoprune.apply(zoo.model, wanted) as patch:
        whole = zoo.model(input_ids=torch.cat([more, ids], 1), pixel_values=pixels).logits[:, -1]
        at_once = patch.report.kept[2][0]
        zoo.model(input_ids=more, past_key_values=cache, use_cache=True)
        second = zoo.model(input_ids=ids, pixel_values=pixels, past_key_values=cache, use_cache=True).logits[:, -1]
        later = patch.report.kept[2][0]
        third = zoo.model(input_ids=ids[:, -3:], past_key_values=cache, use_cache=True).logits
        longer = torch.cat([more, ids, ids[:, -3:]], 1)
        with patch.prompt(more.shape[1] + ids.shape[1]):
            expected = zoo.model(input_ids=longer, pixel_values=pixels).logits[:, -3:]
    assert ids.shape[1] - 15 < len(later) < ids.shape[1]
    assert at_once[30:].tolist() == later.tolist()
    torch.testing.assert_close(second, whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(third, expected, atol=1e-4, rtol=0)
