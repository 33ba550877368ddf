"""Latent attention: the cache holds what keys and values are made from."""

from __future__ import annotations

import pytest
import torch
from support.schedules import attention, schedule
from support.versions import needs
from support.zoo import VOCAB, WORDS, Zoo
from support.zoo.kimi_k25 import kimi_k25
from transformers import DynamicCache

import autoprune
from autoprune.errors import PatchError

pytestmark = needs("5.23", "there is no such family")
MORE = torch.randint(WORDS, VOCAB, (1, 30), generator=torch.Generator().manual_seed(2))


def scored(at: str) -> autoprune.Schedule:
    return schedule((2, {"ratio": 0.5}, attention("text", heads="max", at=at)))


def second_turn(zoo: Zoo) -> torch.Tensor:
    """Logits of the zoo's prompt after a turn of text on the same cache."""
    cache = DynamicCache(config=zoo.model.config)
    call = {name: value for name, value in zoo.inputs.items() if name != "attention_mask"}
    with torch.no_grad():
        zoo.model(input_ids=MORE, past_key_values=cache, use_cache=True)
        return zoo.model(**call, past_key_values=cache, use_cache=True).logits[:, -1]


def test_a_second_turn_keeps_what_one_turn_keeps() -> None:
    zoo = kimi_k25([[0]])
    whole = {**zoo.inputs, "input_ids": torch.cat([MORE, zoo.inputs["input_ids"]], 1)}
    del whole["attention_mask"]
    with torch.no_grad(), autoprune.apply(zoo.model, scored("previous")) as patch:
        expected = zoo.model(**whole).logits[:, -1]
        kept = patch.report.kept[2][0]
        torch.testing.assert_close(second_turn(zoo), expected, atol=1e-4, rtol=0)
        assert patch.report.kept[2][0].tolist() == kept[30:].tolist()


def test_scores_of_the_layer_about_to_run_are_refused_on_a_filled_cache() -> None:
    zoo = kimi_k25([[0]])
    with autoprune.apply(zoo.model, scored("current")):
        with torch.no_grad():
            zoo.model(**zoo.inputs)
        with pytest.raises(PatchError, match="caches what its keys are made from"):
            second_turn(zoo)
        with torch.no_grad():
            zoo.model(**zoo.inputs)
