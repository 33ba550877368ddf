"""Sets whose rows differ in kind: some without images, some with choices, some as messages."""

from __future__ import annotations

import json

import pytest
from support.scenes import save_rows

from autoprune import presets
from autoprune.data.samples import load_samples
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.generate import generate_and_score
from autoprune.evaluate.planning import kind_of, plan_batches


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    path = save_rows(tmp_path_factory.mktemp("mixed"), 10)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number in (1, 4, 5, 6):
        del rows[number]["images"]
    for number in (6, 8):
        del rows[number]["answers"]
        rows[number] |= {"choices": ["red", "blue", "no"], "answer": "B"}
    rows[3]["messages"] = [
        {"role": "system", "content": "count"},
        {"role": "user", "content": [{"type": "text", "text": "red "}, {"type": "image"}]},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": rows[3].pop("prompt")},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_samples(path)


def test_batches_hold_one_kind(loaded, mixed):
    for batch in plan_batches(loaded.processor, mixed, range(10), 4):
        assert len({kind_of(mixed[index]) for index in batch}) == 1


@pytest.mark.parametrize("name", ["himap", "visionzip", "vtw"])
def test_verdicts_are_those_of_generating_and_text_alone_costs_what_dense_does(loaded, mixed, name):
    schedule = presets.for_depth(name, 6)
    criteria = [stage.criterion for stage in schedule.stages if stage.criterion]
    evaluator = Evaluator(loaded, mixed, batch_size=4, criteria=criteria)
    found, slow = evaluator.evaluate(schedule), generate_and_score(loaded, mixed, schedule, 4)
    assert [(r.text, r.correct, r.flops) for r in found] == [(r.text, r.correct, r.flops) for r in slow]
    for row, sample in zip(found, mixed, strict=True):
        assert (row.flops == row.flops_dense) == sample.is_text_only
        assert row.agreement == 1.0 or not sample.is_text_only
    some = [6, 1, 3, 5]  # rows put together to other batches
    assert [r.text for r in evaluator.evaluate(schedule, some)] == [found[i].text for i in some]
