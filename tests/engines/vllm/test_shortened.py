"""A stage taken where images are encoded keeps what the same stage before layer 0 of a decoder keeps."""

from __future__ import annotations

import pytest
import torch

from autoprune.engines.vllm.scores import PromptBatch, rows_where
from autoprune.engines.vllm.shortened import ALONE, chosen, number_kept, shorten, whole_prompt
from autoprune.engines.vllm.steps import DroppedTokens, ScheduledRequest
from autoprune.schedule import Schedule


def stage_of(criterion: dict, merge: str | None = None, **keep) -> Schedule:
    stage = {"layer": 0, "keep": keep, "criterion": criterion, **({"merge": merge} if merge else {})}
    made = {"format": "autoprune.schedule", "version": 1, "stages": [stage], "positions": "compact"}
    return Schedule.model_validate(made).stages[0]


def in_the_decoder(stage, images) -> torch.Tensor:
    """The states of the visual tokens that the stage leaves, of a prompt of these images and one word."""
    states = torch.cat([*images, torch.zeros(1, images[0].shape[1])])
    ranges, at = [], 0
    for image in images:
        ranges.append((at, at + len(image)))
        at += len(image)
    plan = DroppedTokens((stage.keep,)).plan([ScheduledRequest("a", at + 1, 0, at + 1, tuple(ranges))], {"a"})
    batch = PromptBatch(plan, {}, states.device)
    stays = batch.choose(stage, 0, states, None)
    states = batch.merged(states) if stage.merge else states
    return states[rows_where(stays, int(plan.segments[1].rows[0]))[:-1]]


@pytest.mark.parametrize("merge", [None, "mean"])
@pytest.mark.parametrize("keep", [{"ratio": 0.3}, {"count": 5}, {"count": 99}], ids=str)
@pytest.mark.parametrize(
    "criterion", [{"name": "uniform"}, {"name": "random", "seed": 1}, {"name": "diversity"}], ids=str
)
def test_images_of_different_prompts_encoded_together(criterion, keep, merge) -> None:
    stage = stage_of(criterion, merge, **keep)
    images = [torch.randn(n, 6, generator=torch.Generator().manual_seed(n)) for n in (12, 7, 20)]
    images.append(images[0] + 1)  # as long as another
    short, broken = shorten(stage, images, [ALONE] * 4, {})
    assert not broken.any()
    for image, rest in zip(images, short, strict=True):
        torch.testing.assert_close(rest, in_the_decoder(stage, [image]), rtol=0, atol=1e-6)
        assert len(rest) == number_kept(stage, 0, len(image), 0)


@pytest.mark.parametrize("criterion", [{"name": "uniform"}, {"name": "random", "seed": 1}], ids=str)
def test_images_of_one_prompt_share_what_is_kept(criterion) -> None:
    stage = stage_of(criterion, ratio=0.4)
    images = [torch.randn(n, 6) for n in (12, 7, 12)]
    spans = [(0, 31), (12, 31), (19, 31)]
    short, _ = shorten(stage, images, spans, {})
    assert torch.equal(torch.cat(short), in_the_decoder(stage, images))
    counts = [number_kept(stage, first, len(i), total) for i, (first, total) in zip(images, spans, strict=True)]
    assert counts == [len(part) for part in short]
    assert sum(counts) == round(0.4 * 31)


@pytest.mark.parametrize(
    "criterion", [{"name": "uniform"}, {"name": "random", "seed": 1}, {"name": "diversity"}], ids=str
)
def test_images_whose_features_are_not_finite_are_found(criterion) -> None:
    images = [torch.randn(n, 6) for n in (12, 7, 12, 7)]
    images[2][5, 3] = float("inf")
    images[3][0, 0] = float("nan")
    left, broken = shorten(stage_of(criterion, ratio=0.4), images, [ALONE] * 4, {})
    assert broken.tolist() == [False, False, True, True]
    assert [len(part) for part in left] == [5, 3, 5, 3]


@pytest.mark.parametrize("criterion", [{"name": "uniform"}, {"name": "random", "seed": 1}], ids=str)
def test_a_shorter_prompt_knows_where_its_tokens_once_stood(criterion) -> None:
    stage, texts, images = stage_of(criterion, ratio=0.4), (3, 0, 2, 4), (12, 7, 9)
    kept = chosen(stage, torch.empty(1, sum(images), 0))[0].tolist()
    whole, starts = [], []
    for text, n in zip(texts, (*images, 0), strict=True):
        whole += [True] * text
        starts.append(len(whole))
        whole += [kept.pop(0) for _ in range(n)]
    before = [sum(images[:i]) for i in range(3)]
    asked = [(sum(whole[: starts[i]]), images[i], (before[i], sum(images))) for i in range(3)]
    places, begins, length = whole_prompt(stage, sum(whole), asked)
    assert places.tolist() == [place for place, stays in enumerate(whole) if stays]
    assert begins == starts[:3]
    assert length == len(whole)
