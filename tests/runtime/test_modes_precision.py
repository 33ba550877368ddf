"""bf16, fp16 and autocast: selections are those of the same query and key in full precision, the rest is noise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers.models.llama.modeling_llama as llama_file
from support.reference import MaskedReference
from support.zoo import Zoo, gemma3, llava, qwen2_5_vl
from torch import Tensor
from transformers import DynamicCache

import autoprune
from autoprune import Schedule, presets

LOW = [torch.bfloat16, torch.float16]
FIXED = Schedule(
    stages=[
        {"layer": 1, "keep": {"ratio": 0.5}, "criterion": {"name": "uniform"}},
        {"layer": 3, "keep": {"ratio": 0.25}, "criterion": {"name": "random", "seed": 3}},
        {"layer": 5, "keep": {"ratio": 0.0}},
    ]
)
"""Drops the same tokens in any precision."""


def cast(zoo: Zoo, dtype: torch.dtype) -> Zoo:
    zoo.model.to(dtype)
    zoo.inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in zoo.inputs.items()}
    return zoo


def logits(zoo: Zoo) -> Tensor:
    """[B, 4, V]: at the last prompt token, and at three given tokens after it, one by one."""
    cache = DynamicCache(config=zoo.model.config)
    mask, call, found = zoo.inputs["attention_mask"], dict(zoo.inputs), []
    with torch.no_grad():
        for token in (40, 41, 42, None):
            out = zoo.model(**call, past_key_values=cache, use_cache=True)
            found.append(out.logits[:, -1].float())
            mask = torch.cat([mask, mask.new_ones(2, 1)], 1)
            places = mask.cumsum(1)[:, -1:] - 1
            call = {"input_ids": torch.tensor([[token or 0]] * 2), "attention_mask": mask}
            call["position_ids"] = places.expand(3, 2, 1) + zoo.model.model.rope_deltas if _is_mrope(zoo) else places
    return torch.stack(found, 1)


def rms(difference: Tensor) -> float:
    return float(difference.pow(2).mean().sqrt())


def _is_mrope(zoo: Zoo) -> bool:
    return hasattr(zoo.model.model, "rope_deltas")


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("family", [llava, qwen2_5_vl, gemma3])
class TestLowPrecision:
    def test_keeping_all_is_bit_exact(self, family: Callable[..., Zoo], dtype: torch.dtype) -> None:
        zoo = cast(family(), dtype)
        stages = [
            {"layer": k, "keep": {"count": 999}, "criterion": {"name": "attention", "rows": "text"}} for k in (1, 4)
        ]
        dense = logits(zoo)
        with autoprune.apply(zoo.model, Schedule(stages=stages)) as patch:
            assert torch.equal(logits(zoo), dense)
        assert len(patch.scores) == 2

    def test_pruned_is_as_close_to_the_reference_as_dense_is_to_full_precision(
        self, family: Callable[..., Zoo], dtype: torch.dtype
    ) -> None:
        zoo = cast(family(), dtype)
        dense = logits(zoo)
        noise = rms(dense - logits(family()))
        with MaskedReference(zoo.model, FIXED, zoo.visual, zoo.inputs["attention_mask"]):
            expected = logits(zoo)
        with autoprune.apply(zoo.model, FIXED):
            got = logits(zoo)
        assert rms(expected - dense) > 4 * noise  # pruning moves far more than that
        assert rms(got - expected) < 1.5 * noise


@pytest.fixture
def rotated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Query and key of every attention of the text model, after their rotary positions."""
    seen: list[tuple[Tensor, Tensor]] = []
    rotate = llama_file.apply_rotary_pos_emb

    def watch(*args, **kwargs):
        seen.append(rotate(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(llama_file, "apply_rotary_pos_emb", watch)
    return seen


def attention_by_hand(query: Tensor, key: Tensor, valid: Tensor) -> Tensor:
    """[B, S]: mean over heads of the attention of the last row, in fp64, of query and key as they are."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1).double()
    logits = torch.einsum("bhd,bhnd->bhn", query[:, :, -1].double(), key) * query.shape[-1] ** -0.5
    return logits.masked_fill(~valid.bool()[:, None], float("-inf")).softmax(-1).mean(1)


@pytest.mark.parametrize("autocast", [False, True], ids=["model", "autocast"])
@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_selections_are_those_of_full_precision_scores(
    dtype: torch.dtype, autocast: bool, rotated: list[tuple[Tensor, Tensor]]
) -> None:
    zoo = llava() if autocast else cast(llava(), dtype)
    with (
        autoprune.apply(zoo.model, presets.fastv(3, 0.5)) as patch,
        torch.no_grad(),
        torch.autocast("cpu", dtype, enabled=autocast),
    ):
        zoo.model(**zoo.inputs)
    query, key = rotated[2]
    valid = zoo.inputs["attention_mask"]
    scores = attention_by_hand(query, key, valid)
    for b in range(2):
        columns = zoo.visual[b].nonzero()[:, 0]
        best = columns[scores[b, columns].argsort(descending=True, stable=True)[: len(columns) // 2]]
        kept = patch.report.kept[3][b] + int((valid[b] == 0).sum())
        assert set(best.tolist()) == set(kept.tolist()) & set(columns.tolist())


def test_autocast_is_as_close_to_the_reference_as_dense_is_to_full_precision() -> None:
    zoo = llava()
    full = logits(zoo)
    with torch.autocast("cpu", torch.bfloat16):
        noise = rms(logits(zoo) - full)
        with MaskedReference(zoo.model, FIXED, zoo.visual, zoo.inputs["attention_mask"]):
            expected = logits(zoo)
        with autoprune.apply(zoo.model, FIXED):
            got = logits(zoo)
    assert 0 < rms(got - expected) < 1.5 * noise
