"""Generation modes: whatever generate() does with the cache, the answers are those of the masked reference."""

from __future__ import annotations

import pytest
import torch
from support.reference import MaskedReference
from support.zoo import llava, qwen2_5_vl
from transformers import DynamicCache

import autoprune
from autoprune import Schedule

SCHEDULE = Schedule(
    stages=[
        {"layer": 1, "keep": {"ratio": 0.75}, "criterion": {"name": "attention", "rows": "text"}},
        {"layer": 3, "keep": {"ratio": 0.4}, "criterion": {"name": "attention", "rows": "last"}},
        {"layer": 5, "keep": {"ratio": 0.0}},
    ]
)
AT_ZERO = Schedule(
    stages=[
        {"layer": 0, "keep": {"ratio": 0.5}, "criterion": {"name": "uniform"}},
        {"layer": 3, "keep": {"ratio": 0.0}},
    ]
)
MODES = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "num_return_sequences": 2},
    "beams": {"num_beams": 3, "do_sample": False},
    "no cache": {"do_sample": False, "use_cache": False},
}


@pytest.mark.parametrize("wanted", [SCHEDULE, AT_ZERO], ids=["three stages", "at layer 0"])
@pytest.mark.parametrize("mode", MODES)
def test_modes(mode: str, wanted: Schedule) -> None:
    zoo = llava()
    options = {**MODES[mode], "max_new_tokens": 6, "return_dict_in_generate": True, "output_logits": True}
    reference_options = {**options, "use_cache": True}
    visual, valid = zoo.visual, zoo.inputs["attention_mask"]
    copies = options.get("num_return_sequences", 1) * options.get("num_beams", 1)
    visual, valid = visual.repeat_interleave(copies, 0), valid.repeat_interleave(copies, 0)
    with MaskedReference(zoo.model, wanted, visual, valid), torch.no_grad():
        torch.manual_seed(3)
        expected = zoo.model.generate(**zoo.inputs, **reference_options)
    with autoprune.apply(zoo.model, wanted), torch.no_grad():
        torch.manual_seed(3)
        got = zoo.model.generate(**zoo.inputs, **options)
    assert torch.equal(got.sequences, expected.sequences)
    torch.testing.assert_close(torch.stack(got.logits), torch.stack(expected.logits), atol=1e-4, rtol=0)


def test_prompt_lookup() -> None:
    zoo = llava([[0, 1]])
    with autoprune.apply(zoo.model, SCHEDULE):
        plain = zoo.model.generate(**zoo.inputs, max_new_tokens=12, do_sample=False)
        looked_up = zoo.model.generate(
            **zoo.inputs, max_new_tokens=12, do_sample=False, prompt_lookup_num_tokens=3, max_matching_ngram_size=1
        )
    assert torch.equal(plain, looked_up)


@pytest.mark.parametrize("family", [llava, qwen2_5_vl])
def test_second_turn_in_text(family) -> None:
    zoo = family([[0, 1]])
    more = torch.randint(10, 100, (1, 5), generator=torch.Generator().manual_seed(5))
    mask = torch.ones(1, zoo.inputs["input_ids"].shape[1] + 5, dtype=torch.long)

    def two_turns() -> tuple[torch.Tensor, torch.Tensor]:
        cache = DynamicCache(config=zoo.model.config)
        positions = {}
        with torch.no_grad():
            first = zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True).logits[:, -1]
            if family is qwen2_5_vl:
                start = torch.arange(5) + zoo.inputs["input_ids"].shape[1] + zoo.model.model.rope_deltas
                positions = {"position_ids": start.expand(3, 1, 5)}
            second = zoo.model(input_ids=more, attention_mask=mask, past_key_values=cache, use_cache=True, **positions)
        return first, second.logits

    with MaskedReference(zoo.model, SCHEDULE, zoo.visual, zoo.inputs["attention_mask"]):
        expected = two_turns()
    with autoprune.apply(zoo.model, SCHEDULE) as patch:
        got = two_turns()
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert patch.report.active


def test_second_turn_with_a_new_image_prunes_only_what_it_brings() -> None:
    """One pass over both turns, each pruned by hand where it stands, is the truth here."""
    zoo = llava([[0], [1]])
    ids = zoo.inputs["input_ids"]
    length = ids.shape[1]
    first, second = ids[:1, -length + (ids[0] == 0).sum() :], ids[1:][:, (ids[1] == 0).sum() :]
    pixels = zoo.inputs["pixel_values"]
    cache = DynamicCache(config=zoo.model.config)
    schedule = Schedule(
        stages=[{"layer": 0, "keep": {"count": 5}, "criterion": {"name": "uniform"}}, *AT_ZERO.stages[1:]]
    )
    with autoprune.apply(zoo.model, schedule) as patch, torch.no_grad():
        zoo.model(input_ids=first, pixel_values=pixels[:1], past_key_values=cache, use_cache=True)
        kept_first = patch.report.kept
        got = zoo.model(input_ids=second, pixel_values=pixels[1:], past_key_values=cache, use_cache=True).logits[0, -1]
        kept_second = patch.report.kept
    n1, n2 = first.shape[1], second.shape[1]
    dead = {k: torch.ones(1, n1 + n2, dtype=torch.bool) for k in (0, 3)}
    for k in (0, 3):
        dead[k][0, kept_first[k][0]] = False
        dead[k][0, n1 + kept_second[k][0]] = False
    both = {"input_ids": torch.cat([first, second], 1), "pixel_values": pixels}
    reference = MaskedReference(zoo.model, Schedule(), both["input_ids"] == 5, torch.ones(1, n1 + n2))
    reference._decide = lambda *a: None
    reference._masked = lambda mask, i, cache, hidden: mask.masked_fill(
        dead[3 if i >= 3 else 0][:, None, None, :], torch.finfo(mask.dtype).min
    )
    with reference, torch.no_grad():
        expected = zoo.model(**both).logits[0, -1]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert patch.report.kv_entries[3, 0] == (n1 - 16) + (n2 - 16)


def test_hidden_states_keep_full_length_and_loss_flows_back() -> None:
    zoo = llava()
    labels = zoo.inputs["input_ids"].clone()
    labels[:, :-2] = -100
    grads = []
    for checkpointing in (False, True):
        zoo.model.train()
        if checkpointing:
            zoo.model.gradient_checkpointing_enable()
        with autoprune.apply(zoo.model, SCHEDULE):
            out = zoo.model(**zoo.inputs, labels=labels, output_hidden_states=True)
            out.loss.backward()
        assert {h.shape[1] for h in out.hidden_states} == {labels.shape[1]}
        grads.append(zoo.model.get_decoder().layers[2].mlp.gate_proj.weight.grad.clone())
        zoo.model.zero_grad()
    torch.testing.assert_close(*grads, atol=1e-6, rtol=0)
    assert grads[0].abs().sum() > 0


@pytest.mark.parametrize("at", ["previous", "current"])
def test_an_image_after_a_cached_turn_is_scored_with_the_cached_keys(at: str) -> None:
    """A turn of text in the cache, then the rest: the same tokens are kept as in one pass over both."""
    zoo = llava([[0]])
    criterion = {"name": "attention", "rows": "text", "heads": "max", "at": at}
    # A threshold, since a share of the tokens would not see that all scores are too high.
    wanted = Schedule(stages=[{"layer": 2, "keep": {"threshold": 0.2}, "criterion": criterion}])
    ids, pixels = zoo.inputs["input_ids"], zoo.inputs["pixel_values"]
    more = torch.randint(10, 100, (1, 30), generator=torch.Generator().manual_seed(2))
    cache = DynamicCache(config=zoo.model.config)
    with torch.no_grad(), autoprune.apply(zoo.model, wanted) as patch:
        whole = zoo.model(input_ids=torch.cat([more, ids], 1), pixel_values=pixels).logits[:, -1]
        at_once = patch.report.kept[2][0]
        zoo.model(input_ids=more, past_key_values=cache, use_cache=True)
        second = zoo.model(input_ids=ids, pixel_values=pixels, past_key_values=cache, use_cache=True).logits[:, -1]
        later = patch.report.kept[2][0]
    assert ids.shape[1] - 15 < len(later) < ids.shape[1]
    assert at_once[30:].tolist() == (later + 30).tolist()
    torch.testing.assert_close(second, whole, atol=1e-4, rtol=0)


def test_a_cropped_cache_takes_the_same_tokens_again() -> None:
    zoo = llava([[0]])
    ids = zoo.inputs["input_ids"]
    cache = DynamicCache(config=zoo.model.config)
    with torch.no_grad(), autoprune.apply(zoo.model, SCHEDULE):
        expected = zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True).logits[:, -2:]
        for _ in range(2):
            cache.crop(-2)
            assert cache.get_seq_length() == cache.layers[5].get_seq_length() == ids.shape[1] - 2
            again = zoo.model(input_ids=ids[:, -2:], past_key_values=cache, use_cache=True).logits
            torch.testing.assert_close(again, expected, atol=1e-4, rtol=0)
