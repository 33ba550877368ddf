"""Cut attention edges against a model whose eager masks are edited entry by entry."""

from __future__ import annotations

import pytest
import torch
from support.reference import layers_of
from support.zoo import FAMILIES
from support.zoo.lfm2_vl import lfm2_vl

from autoprune.analysis.flow.edge_ablation import (
    CUTS,
    EdgeAblation,
    cut_edges,
    random_edges,
    visible_edges,
    without_edges,
)
from autoprune.errors import DataError
from autoprune.evaluate.encoding import force
from autoprune.evaluate.prefix import DensePrefix

ANSWERS = [[20, 30, 40], [50]]


def prefix_of(zoo, answers=ANSWERS):
    return DensePrefix.of(zoo.model, force(zoo.model, zoo.inputs, answers, 0), ())


def ablation_of(zoo, prefix):
    rows = len(prefix.forced.ends)
    return EdgeAblation(zoo.model, prefix, range(rows), [f"row {b}" for b in range(rows)])


def edited_by_hand(zoo, prefix, cut, layers):
    """Whole eager runs; every (query, key) pair in turn."""
    ids, ends = prefix.forced.inputs["input_ids"], prefix.forced.ends
    valid = prefix.forced.inputs["attention_mask"]
    is_visual = [
        [int(token) in zoo.placeholders and j < end for j, token in enumerate(row)]
        for row, end in zip(ids, ends, strict=True)
    ]

    def edit(layer, args, kwargs):
        mask = kwargs["attention_mask"].clone()
        for b, row in enumerate(is_visual):
            for i in range(len(row)):
                for j in range(len(row)):
                    reads = row[i] if cut == "visual_to_visual" else not row[i]
                    if i != j and row[j] and reads and valid[b, i]:
                        mask[b, :, i, j] = torch.finfo(mask.dtype).min
        return args, {**kwargs, "attention_mask": mask}

    zoo.model.set_attn_implementation("eager")
    every = layers_of(zoo.model)
    handles = [every[i].register_forward_pre_hook(edit, with_kwargs=True) for i in layers]
    with torch.no_grad():
        logits = zoo.model(
            **prefix.forced.inputs, position_ids=prefix.position_ids, logits_to_keep=prefix.forced.width
        ).logits
    for handle in handles:
        handle.remove()
    return logits[:, -prefix.forced.width :]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "internvl", "gemma3"])
def test_equals_masks_edited_by_hand(family, attention, cut):
    zoo = FAMILIES[family].build()
    zoo.model.set_attn_implementation(attention)
    prefix = prefix_of(zoo)
    ablation, valid = ablation_of(zoo, prefix), prefix.forced.valid
    onward, window = ablation.logits(cut, 2), ablation.logits(cut, 1, 3)
    torch.testing.assert_close(onward[valid], edited_by_hand(zoo, prefix, cut, range(2, 6))[valid], atol=1e-3, rtol=0)
    torch.testing.assert_close(window[valid], edited_by_hand(zoo, prefix, cut, range(1, 3))[valid], atol=1e-3, rtol=0)
    assert (onward - prefix.logits)[valid].abs().max() > 0.1
    assert all(not layer._forward_pre_hooks for layer in layers_of(zoo.model))


def test_an_unpadded_prompt_whose_model_makes_no_mask():
    zoo = FAMILIES["llava"].build([[0]])
    prefix = prefix_of(zoo, ANSWERS[:1])
    got = ablation_of(zoo, prefix).logits("visual_to_text", 3)
    torch.testing.assert_close(got, edited_by_hand(zoo, prefix, "visual_to_text", range(3, 6)), atol=1e-3, rtol=0)


def test_text_cut_from_layer_0_on_does_not_depend_on_the_image():
    zoo = FAMILIES["llava"].build([[0]])
    first = ablation_of(zoo, prefix := prefix_of(zoo, ANSWERS[:1])).logits("visual_to_text", 0)
    zoo.inputs["pixel_values"] = -2 * zoo.inputs["pixel_values"]
    other = prefix_of(zoo, ANSWERS[:1])
    torch.testing.assert_close(ablation_of(zoo, other).logits("visual_to_text", 0), first, atol=1e-4, rtol=0)
    assert (prefix.logits - other.logits).abs().max() > 0.1


def test_layers_without_attention_are_not_cut():
    zoo = lfm2_vl()
    prefix = prefix_of(zoo)
    ablation = ablation_of(zoo, prefix)
    attends = [hasattr(layer, "self_attn") for layer in layers_of(zoo.model)]
    assert any(attends)
    assert not all(attends)
    for i, does in enumerate(attends):
        assert (ablation.logits("visual_to_text", i, i + 1) is not None) == does


@pytest.mark.parametrize("cut", CUTS)
def test_the_control_has_as_many_edges_of_each_row_and_follows_its_seed(cut):
    valid = torch.ones(2, 14, dtype=torch.bool)
    valid[1, :5] = False
    visual = torch.zeros_like(valid)
    visual[0, 2:8] = visual[1, 7:10] = True
    visible = visible_edges(None, valid)
    edges = cut_edges(cut, visible, visual)
    count = edges.flatten(1).sum(1)
    assert count.tolist() == ([36, 12] if cut == "visual_to_text" else [15, 3])
    drawn = random_edges(edges, visible, [3, 4])
    assert drawn.flatten(1).sum(1).tolist() == count.tolist()
    assert not (drawn & ~visible).any()
    assert torch.equal(drawn, random_edges(edges, visible, [3, 4]))
    assert not torch.equal(drawn, random_edges(edges, visible, [5, 4]))
    # Alone and with other padding it is the same draw.
    alone = random_edges(edges[1:, 5:, 5:], visible[1:, 5:, 5:], [4])
    assert torch.equal(alone, drawn[1:, 5:, 5:])


def test_a_token_always_sees_itself_and_padding_no_edge():
    valid = torch.tensor([[False, True, True, True]])
    visible = visible_edges(torch.ones(1, 1, 4, 4, dtype=torch.bool), valid)
    assert not visible[0].diagonal().any()
    assert not visible[0, 0].any()
    assert not visible[0, :, 0].any()
    assert visible.sum() == 6
    left = without_edges(None, visible_edges(None, torch.ones(1, 4, dtype=torch.bool)))
    assert torch.equal(left[0, 0], torch.eye(4, dtype=torch.bool))


def test_an_image_that_nothing_reads_is_named():
    zoo = FAMILIES["llava"].build([[0]])
    end = int((zoo.inputs["input_ids"][0] == zoo.placeholders[0]).nonzero().max()) + 1
    for name in ("input_ids", "attention_mask"):
        zoo.inputs[name] = zoo.inputs[name][:, :end]
    prefix = prefix_of(zoo, [[20]])
    with pytest.raises(DataError, match="row 0: no text token sees a visual token"):
        ablation_of(zoo, prefix).logits("visual_to_text", 1)
