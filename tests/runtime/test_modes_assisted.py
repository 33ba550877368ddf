"""Assisted decoding and prompt lookup: passes that bring several drafted tokens, some of them rejected again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.reference import MaskedReference
from support.zoo import IMAGE, Zoo, gemma3, llama, llava, qwen2_5_vl
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

import autoprune
from autoprune import presets
from autoprune.errors import PatchError

HIMAP = presets.himap((1, 3), (0.5, 0.25))
FAMILIES = [llava, qwen2_5_vl, gemma3]
NEW = 12


def generate(zoo: Zoo, **options: object) -> Tensor:
    return zoo.model.generate(**zoo.inputs, max_new_tokens=NEW, do_sample=False, **options)


def reference(zoo: Zoo, **options: object) -> Tensor:
    with MaskedReference(zoo.model, HIMAP, zoo.visual, zoo.inputs["attention_mask"]):
        return generate(zoo, **options)


class Push(LogitsProcessor):
    """Forces given tokens at given places of the answer."""

    def __init__(self, start: int, tokens: dict[int, int]) -> None:
        self.tokens = {start + place: token for place, token in tokens.items()}

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        token = self.tokens.get(ids.shape[1])
        return scores if token is None else torch.full_like(scores, -1e9).index_fill(1, torch.tensor([token]), 0)


@pytest.mark.parametrize("assistant", ["dense", "patched", "itself"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_assistant_does_not_change_the_answer(family: Callable[..., Zoo], assistant: str) -> None:
    zoo = family([[0, 1]])
    other = zoo.model if assistant == "itself" else family([[0, 1]], seed=1).model
    expected = reference(zoo)
    with autoprune.apply(zoo.model, HIMAP):
        patch = autoprune.apply(other, HIMAP) if assistant == "patched" else None
        got = generate(zoo, assistant_model=other)
    if patch:
        assert patch.report.active
        patch.remove()
    assert torch.equal(got, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompt_lookup(family: Callable[..., Zoo]) -> None:
    zoo = family([[0, 1]])
    expected = reference(zoo)
    with autoprune.apply(zoo.model, HIMAP):
        got = generate(zoo, prompt_lookup_num_tokens=3, max_matching_ngram_size=1)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("accepted", [False, True], ids=["rejected", "accepted"])
def test_drafted_image_tokens_are_no_visual_tokens(accepted: bool) -> None:
    """The answer repeats the word before the image, so that the lookup drafts image tokens; the model may take them."""
    zoo = llava([[0, 1]])
    ids = zoo.inputs["input_ids"][0]
    first = int(zoo.visual[0].nonzero()[0])
    pushed = {2: int(ids[first - 1])} | ({3: IMAGE, 4: IMAGE} if accepted else {})
    zoo.model.generation_config.suppress_tokens = None
    options = {"logits_processor": LogitsProcessorList([Push(len(ids), pushed)])}
    expected = reference(zoo, **options)
    seen: list[Tensor] = []
    zoo.model.register_forward_pre_hook(lambda m, a, k: seen.append(k["input_ids"]), with_kwargs=True)
    with autoprune.apply(zoo.model, HIMAP) as patch:
        got = generate(zoo, prompt_lookup_num_tokens=3, max_matching_ngram_size=1, **options)
    assert any((x == IMAGE).any() for x in seen[1:])  # such drafts did come
    assert bool((got[0, len(ids) :] == IMAGE).any()) == accepted
    assert torch.equal(got, expected)
    assert patch.report.tokens[0].tolist() == [seen[0].shape[1]]


def test_image_tokens_among_the_drafts_of_a_patched_assistant() -> None:
    """The assistant goes on after its own cache; nothing that was generated is pruned there either."""
    zoo, length = llava([[0, 1]]), 0
    length = zoo.inputs["input_ids"].shape[1]
    assistant = llava([[0, 1]], seed=1).model
    for model in (zoo.model, assistant):
        model.generation_config.suppress_tokens = None
    options = {"logits_processor": LogitsProcessorList([Push(length, {3: IMAGE, 4: IMAGE, 7: IMAGE})])}
    expected = reference(zoo, **options)
    with autoprune.apply(zoo.model, HIMAP), autoprune.apply(assistant, HIMAP) as patch:
        got = generate(zoo, assistant_model=assistant, **options)
    assert torch.equal(got, expected)
    assert patch.visual.shape[1] == length
    assert patch.visual.sum() == zoo.visual.sum()


@pytest.mark.parametrize(
    "options",
    [{"assistant_early_exit": 2}, {"use_mtp": True}, {"speculation_type": "dflash"}],
    ids=lambda o: next(iter(o)),
)
def test_drafts_that_leave_the_layers_are_refused_before_compute(options: dict[str, object]) -> None:
    model, ids = llama(), torch.arange(10, 30)[None]
    mask = torch.zeros(1, 20, dtype=torch.bool)
    mask[:, 3:12] = True
    calls: list[object] = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    with autoprune.apply(model, HIMAP, mask), pytest.raises(PatchError, match=next(iter(options))):
        model.generate(input_ids=ids, max_new_tokens=4, **options)
    assert not calls
