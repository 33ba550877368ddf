"""Batches put together from rows of others, against the batches in which the rows were prepared."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from support.scenes import save_rows

from autoprune import presets
from autoprune.data.samples import SampleSet, load_samples
from autoprune.evaluate.evaluator import Evaluator
from autoprune.schedule import parse_criterion

CRITERIA = [parse_criterion(name) for name in ("last", "text", "encoder")]
SCHEDULES = [presets.himap((1, 3), (0.5, 0.2)), presets.visionzip(0.4), presets.vtw(3)]
LENGTH = 8


@pytest.fixture(scope="module")
def mixed(data, tmp_path_factory):
    """Questions with and without choices."""
    folder = tmp_path_factory.mktemp("choices")
    chosen = load_samples(save_rows(folder, 5, answers=None, choices=["red", "blue left", "no"], answer="red"))
    return SampleSet.of([*data.samples, *chosen.samples], "mixed")


@pytest.fixture(scope="module")
def evaluator(loaded, mixed):
    return Evaluator(loaded, mixed, batch_size=6, max_new_tokens=LENGTH, criteria=CRITERIA)


def rows_run(loaded, work):
    """Row-layers that run while `work` does, one token at a time left out."""
    ran = Counter()
    layers = loaded.model.get_decoder().layers
    note = lambda module, args, out: ran.update(rows=len(out[0]) if out[0].shape[1] > 1 else 0)  # noqa: E731
    handles = [layer.self_attn.register_forward_hook(note) for layer in layers]
    try:
        work()
    finally:
        for handle in handles:
            handle.remove()
    return ran["rows"]


@pytest.mark.parametrize("rows", [[3], [0, 5, 9, 1, 12], [2, 14, 7, 15, 3, 16, 13, 11]])
def test_a_part_of_the_rows_gives_what_all_of_them_give(evaluator, rows):
    for whole, part in zip(evaluator.evaluate_many(SCHEDULES), evaluator.evaluate_many(SCHEDULES, rows), strict=True):
        for row, result in zip(rows, part, strict=True):
            assert result.kl == pytest.approx(whole[row].kl, abs=2e-5)
            assert dataclasses.replace(result, kl=0.0) == dataclasses.replace(whole[row], kl=0.0)


def test_a_part_of_the_rows_costs_a_part_and_no_image_is_encoded_again(evaluator, loaded):
    schedule = presets.fastv()
    evaluator.prepare()
    encoded = []
    tower = loaded.model.model.vision_tower.register_forward_hook(lambda *call: encoded.append(call))
    spread = [batch.indices[0] for batch in evaluator._batches if not batch.has_choices]
    try:
        evaluator.evaluate(schedule, spread)  # regroups them
        few = rows_run(loaded, lambda: evaluator.evaluate(schedule, spread))
    finally:
        tower.remove()
    every = rows_run(loaded, lambda: evaluator.evaluate(schedule, range(12)))
    assert few * 12 == every * len(spread)
    assert encoded == []


def test_a_model_whose_calls_cannot_be_cut_into_rows_runs_whole_batches(loaded, data, monkeypatch):
    monkeypatch.setattr("autoprune.evaluate.regroup.joined", lambda parts: None)
    evaluator = Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH, criteria=CRITERIA)
    whole, some = evaluator.evaluate(SCHEDULES[0]), evaluator.evaluate(SCHEDULES[0], [7, 2])
    assert some == [whole[7], whole[2]]


def test_rows_that_come_out_otherwise_are_not_regrouped(loaded, data):
    evaluator = Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH)
    evaluator.prepare()
    for batch in evaluator._batches:
        batch.dense_pass.text_call["inputs_embeds"] = torch.flip(batch.dense_pass.text_call["inputs_embeds"], [0])
    first = [batch.indices[0] for batch in evaluator._batches]
    assert sorted(i for b in evaluator._regrouping.covering(first) for i in b.indices) == list(range(len(data)))
