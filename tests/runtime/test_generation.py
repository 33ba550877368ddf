"""Generation modes: whatever generate() does with the cache, the answers are those of the masked reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.rows import families_in
from support.schedules import FOR_MODES
from support.zoo import FAMILIES, Row, Zoo
from torch import Tensor

import autoprune
from autoprune import Schedule

EACH_SCHEDULE = pytest.mark.parametrize("name", FOR_MODES)
GREEDY = {"do_sample": False}


def generate(zoo: Zoo, **options: Any) -> tuple[Tensor, Tensor]:
    """Ids and logits [B, steps, V]; the same draws each time."""
    torch.manual_seed(3)
    with torch.no_grad():
        out = zoo.model.generate(
            **zoo.inputs, max_new_tokens=6, return_dict_in_generate=True, output_logits=True, **options
        )
    return out.sequences, torch.stack(out.logits, 1)


def reference_answer(row: Row, zoo: Zoo, wanted: Schedule, copies: int = 1, **options: Any) -> tuple[Tensor, Tensor]:
    """What the reference generates, with `copies` of each sample in the batch."""
    visual, valid = (t.repeat_interleave(copies, 0) for t in (zoo.visual, zoo.inputs["attention_mask"]))
    with row.reference(zoo.model, wanted, visual, valid):
        return generate(zoo, **options)


def check(family: str, plan: list[list[int]], name: str, options: dict[str, Any], copies: int = 1, **same: Any) -> None:
    """Generate with `options`; the reference with `same`."""
    row = FAMILIES[family]
    zoo = row.build(plan)
    expected = reference_answer(row, zoo, FOR_MODES[name], copies, **same)
    with autoprune.apply(zoo.model, FOR_MODES[name]) as patch:
        sequences, logits = generate(zoo, **options)
    assert patch.report.active
    assert torch.equal(sequences, expected[0])
    torch.testing.assert_close(logits, expected[1], atol=1e-4, rtol=0)


@EACH_SCHEDULE
@pytest.mark.parametrize("family", families_in("sampling"))
def test_several_samples_of_each_prompt(family: str, name: str) -> None:
    options = {"do_sample": True, "num_return_sequences": 2}
    check(family, [[0], [1]], name, options, copies=2, **options)


@EACH_SCHEDULE
@pytest.mark.parametrize("family", families_in("beams"))
def test_beams(family: str, name: str) -> None:
    """All beams at the end and their scores; on the way they may stand in any order."""
    row = FAMILIES[family]
    zoo = row.build([[0], [1]])
    options = {"num_beams": 3, "num_return_sequences": 3, "do_sample": False, "return_dict_in_generate": True}
    visual, valid = (t.repeat_interleave(3, 0) for t in (zoo.visual, zoo.inputs["attention_mask"]))
    with row.reference(zoo.model, FOR_MODES[name], visual, valid):
        expected = zoo.model.generate(**zoo.inputs, max_new_tokens=6, output_scores=True, **options)
    with autoprune.apply(zoo.model, FOR_MODES[name]) as patch:
        got = zoo.model.generate(**zoo.inputs, max_new_tokens=6, output_scores=True, **options)
    assert patch.report.active
    assert torch.equal(got.sequences, expected.sequences)
    torch.testing.assert_close(got.sequences_scores, expected.sequences_scores, atol=1e-4, rtol=0)


@EACH_SCHEDULE
@pytest.mark.parametrize("family", families_in("no cache"))
def test_without_a_cache(family: str, name: str) -> None:
    check(family, [[0, 1], [2]], name, {**GREEDY, "use_cache": False}, **GREEDY)


@EACH_SCHEDULE
@pytest.mark.parametrize("family", families_in("static cache"))
def test_static_cache(family: str, name: str) -> None:
    check(family, [[0, 1], [2]], name, {**GREEDY, "cache_implementation": "static"}, **GREEDY)


@EACH_SCHEDULE
@pytest.mark.parametrize("family", families_in("prompt lookup"))
def test_prompt_lookup(family: str, name: str) -> None:
    options = {**GREEDY, "prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 1}
    check(family, [[0, 1, 2]], name, options, **GREEDY)
