"""A generate() that is not looked up on the patched model: exact with a cache, else one clear error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from support.reference import MaskedReference
from support.zoo import Zoo, llava
from torch import Tensor

import autoprune
from autoprune import presets
from autoprune.errors import PatchError

HIMAP = presets.himap((1, 3), (0.5, 0.25))
GREEDY = {"max_new_tokens": 5, "do_sample": False}


@contextmanager
def bound_before(zoo: Zoo):
    generate = zoo.model.generate
    with autoprune.apply(zoo.model, HIMAP) as patch:
        yield generate, patch


@contextmanager
def of_the_class(zoo: Zoo):
    with autoprune.apply(zoo.model, HIMAP) as patch:
        yield lambda **call: type(zoo.model).generate(zoo.model, **call), patch


@contextmanager
def of_the_model_around(zoo: Zoo):
    with autoprune.apply(zoo.model.model, HIMAP) as patch:
        yield zoo.model.generate, patch


DOORS = pytest.mark.parametrize("door", [bound_before, of_the_class, of_the_model_around])
Door = Callable[[Zoo], Any]


def reference(zoo: Zoo) -> Tensor:
    with MaskedReference(zoo.model, HIMAP, zoo.visual, zoo.inputs["attention_mask"]):
        return zoo.model.generate(**zoo.inputs, **GREEDY)


@DOORS
@pytest.mark.parametrize(
    "options",
    [{"use_cache": False}, {"prompt_lookup_num_tokens": 2}, {"prefill_chunk_size": 8}],
    ids=["no cache", "drafts", "chunks"],
)
def test_a_prompt_whose_end_is_not_known_is_refused_before_anything_is_pruned(door: Door, options: dict) -> None:
    zoo = llava([[0, 1]])
    with door(zoo) as (generate, patch):
        with pytest.raises(PatchError, match=r"goes around the patch|chunked prefill"):
            generate(**zoo.inputs, **GREEDY, **options)
        assert not patch.report.active


@DOORS
def test_with_a_cache_it_is_exact(door: Door) -> None:
    zoo = llava()
    expected = reference(zoo)
    with door(zoo) as (generate, patch):
        assert torch.equal(generate(**zoo.inputs, **GREEDY), expected)
        assert patch.report.active


@DOORS
def test_a_prompt_whose_end_is_told_and_a_prompt_in_text_run_without_a_cache(door: Door) -> None:
    zoo = llava()
    expected, text = reference(zoo), {"input_ids": torch.randint(10, 100, (2, 9))}
    dense = zoo.model.generate(**text, **GREEDY)
    with door(zoo) as (generate, patch):
        assert torch.equal(generate(**text, **GREEDY, use_cache=False), dense)
        with patch.prompt(zoo.inputs["input_ids"].shape[1]):
            assert torch.equal(generate(**zoo.inputs, **GREEDY, use_cache=False), expected)


def test_a_pass_of_the_patched_model_within_the_generate_of_another_is_its_own() -> None:
    """A model that asks a second, patched one while it generates."""
    asked, asking = llava(), llava(seed=1)
    with autoprune.apply(asked.model, HIMAP) as patch, torch.no_grad():
        asked.model(**asked.inputs)
        expected = patch.report.tokens
        asking.model.register_forward_pre_hook(lambda *_: asked.model(**asked.inputs, use_cache=False) and None)
        asking.model.generate(**asking.inputs, **GREEDY)
        assert torch.equal(patch.report.tokens, expected)
