"""A decode step under the patch costs next to nothing: no value is read back to the host, nothing is made in vain."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from support.syncs import counted_operators, counted_syncs
from support.zoo import FAMILIES, Zoo, llama

import autoprune
from autoprune import Schedule, presets

TWO_STAGES = presets.himap((1, 3), (0.5, 0.25))
COMPACT = Schedule.model_validate({**TWO_STAGES.to_json_dict(), "positions": "compact"})


def syncs(zoo: Zoo, tokens: int) -> Counter[str]:
    """Those of a whole generation."""
    with torch.no_grad(), counted_syncs() as found:
        zoo.model.generate(**zoo.inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
    return found


def syncs_of_steps(zoo: Zoo) -> Counter[str]:
    """Those of three decode steps: of a longer generation, but not of a shorter one."""
    longer = syncs(zoo, 5)
    longer.subtract(syncs(zoo, 2))
    return +longer


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("plan", [[[0]], [[0, 1], [2]]], ids=["one sample", "ragged batch"])
@pytest.mark.parametrize(
    ("family", "schedule"),
    [("llava", TWO_STAGES), ("llava", COMPACT), ("gemma3", TWO_STAGES), ("qwen3_vl", presets.vtw(2))],
    ids=["llava", "llava compact", "gemma3", "qwen3_vl"],
)
def test_no_value_is_read_on_the_host(family: str, schedule: Schedule, plan: list[list[int]], attention: str) -> None:
    zoo = FAMILIES[family].build(plan)
    zoo.model.set_attn_implementation(attention)
    dense = syncs_of_steps(zoo)
    with autoprune.apply(zoo.model, schedule) as patch:
        pruned = syncs_of_steps(zoo)
    assert patch.report.active
    assert pruned == dense


def test_a_step_runs_the_operators_of_the_dense_model_and_no_other_in_its_layers() -> None:
    model, prompt, token = llama(), torch.randn(1, 40, 64), torch.randn(1, 1, 64)
    mask = torch.arange(40)[None] < 32

    def step() -> Counter[str]:
        with torch.no_grad():
            cache = model.model(inputs_embeds=prompt, use_cache=True).past_key_values
            with counted_operators() as found:
                model.model(inputs_embeds=token, past_key_values=cache)
        return found

    dense = step()
    with autoprune.apply(model, TWO_STAGES, mask):
        extra = step()
    extra.subtract(dense)
    assert sum(abs(count) for count in extra.values()) <= 4, extra  # a few before the first layer


def test_nothing_is_gathered_where_nothing_is_dropped() -> None:
    model, prompt = llama(), torch.randn(2, 40, 64)
    mask = (torch.arange(40)[None] < 32).expand(2, -1)
    stage = {"layer": 2, "keep": {"count": 32}, "criterion": {"name": "attention", "rows": "text"}}
    written_back = "aten::index_copy"  # hidden states; scores are gathered where they are made

    def prefill() -> Counter[str]:
        with torch.no_grad(), counted_operators() as found:
            model(inputs_embeds=prompt)
        return found

    with autoprune.apply(model, Schedule.model_validate({"stages": [stage]}), mask) as patch:
        kept = prefill()
    assert patch.report.active
    assert not kept[written_back]
    with autoprune.apply(model, presets.vtw(2), mask):
        dropped = prefill()
    assert dropped[written_back]


@pytest.mark.parametrize("rows", ["all", "visual"])
def test_no_map_of_all_queries_and_keys_is_ever_made(rows: str) -> None:
    length, heads = 1200, 4
    model, prompt = llama(), torch.randn(1, length, 64)
    stage = {"layer": 2, "keep": {"ratio": 0.5}, "criterion": {"name": "attention", "rows": rows}}
    mask = torch.arange(length)[None] < length - 10
    patched = autoprune.apply(model, Schedule.model_validate({"stages": [stage]}), mask)
    with patched, torch.no_grad(), counted_operators() as found:
        model(inputs_embeds=prompt, logits_to_keep=1)
    assert found.largest < heads * length * length / 2
    assert found.largest >= heads * length  # the rows were really scored
