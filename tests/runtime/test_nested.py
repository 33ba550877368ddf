"""A patch inside the block of another: the inner one prunes while its block lasts, then the outer one does again."""

from __future__ import annotations

import pytest
import torch
from support.zoo import Zoo, llava

import autoprune
from autoprune import presets

HIMAP = presets.himap((1, 3), (0.5, 0.25))


def logits(zoo: Zoo) -> torch.Tensor:
    with torch.no_grad():
        return zoo.model(**zoo.inputs).logits


def test_after_an_inner_block_the_outer_patch_prunes_again() -> None:
    zoo = llava()
    dense = logits(zoo)
    with autoprune.apply(zoo.model, HIMAP) as outer:
        expected, kept = logits(zoo), outer.report.tokens
        with autoprune.apply(zoo.model, presets.vtw(2)) as inner:
            logits(zoo)
            assert sorted(inner.report.kept) == [2]
        zoo.model(input_ids=torch.randint(10, 100, (2, 9)))
        assert not outer.report.active  # of a prompt without images, and not what it said before the inner block
        assert torch.equal(logits(zoo), expected)
        assert torch.equal(outer.report.tokens, kept)
    assert torch.equal(logits(zoo), dense)


def test_an_inner_block_that_fails_puts_the_outer_patch_back() -> None:
    zoo = llava()
    with autoprune.apply(zoo.model, HIMAP):
        expected = logits(zoo)
        with pytest.raises(KeyError), autoprune.apply(zoo.model, presets.vtw(2)):
            raise KeyError("stop")
        assert torch.equal(logits(zoo), expected)


def test_a_patch_without_a_block_comes_back_after_a_block_inside() -> None:
    zoo = llava()
    patch = autoprune.apply(zoo.model, HIMAP)
    expected = logits(zoo)
    for _ in range(2):
        with autoprune.apply(zoo.model, presets.vtw(2)):
            logits(zoo)
    assert torch.equal(logits(zoo), expected)
    assert patch.report.active


def test_a_patch_that_was_removed_meanwhile_stays_removed() -> None:
    zoo = llava()
    dense = logits(zoo)
    with autoprune.apply(zoo.model, HIMAP) as outer:
        with autoprune.apply(zoo.model, presets.vtw(2)):
            outer.remove()
            assert not torch.equal(logits(zoo), dense)
        assert torch.equal(logits(zoo), dense)


def test_removing_by_hand_leaves_the_model_dense_until_the_block_ends() -> None:
    zoo = llava()
    dense = logits(zoo)
    with autoprune.apply(zoo.model, HIMAP):
        expected = logits(zoo)
        with autoprune.apply(zoo.model, presets.vtw(2)) as inner:
            inner.remove()
            assert torch.equal(logits(zoo), dense)
        assert torch.equal(logits(zoo), expected)
        autoprune.apply(zoo.model, presets.vtw(2)).remove()
        assert torch.equal(logits(zoo), dense)
