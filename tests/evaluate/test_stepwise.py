"""Models that cannot be teacher-forced: the evaluator generates instead, and gives what the patched model answers."""

from __future__ import annotations

import dataclasses

import pytest
from support.scenes import save_rows

import autoprune
from autoprune import presets
from autoprune.data.samples import load_samples
from autoprune.evaluate.encoding import encode
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.generate import generate_and_score
from autoprune.schedule import Schedule

LENGTH = 8
SCHEDULES = [presets.vtw(2), presets.uniform(3, 0.5), presets.himap((1, 3), (0.5, 0.2)), Schedule()]


@pytest.fixture
def unlike(loaded):
    """A model whose logits differ between a decode step and a pass over prompt and answer."""
    head = loaded.model.lm_head
    handle = head.register_forward_hook(lambda module, args, out: out if out.shape[1] > 1 else 1.5 * out)
    yield loaded
    handle.remove()


def generated(loaded, sample, schedule):
    inputs = encode(loaded.processor, [sample])
    with autoprune.apply(loaded.model, schedule):
        tokens = loaded.model.generate(**inputs, max_new_tokens=LENGTH, do_sample=False)
    return loaded.processor.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_a_model_that_reads_prompts_differently_when_an_answer_follows_is_scored_by_generating(unlike, data):
    evaluator = Evaluator(unlike, data, batch_size=5, max_new_tokens=LENGTH)
    for schedule, results in zip(SCHEDULES, evaluator.evaluate_many(SCHEDULES), strict=True):
        assert [result.text for result in results] == [generated(unlike, sample, schedule) for sample in data]
    assert "one pass over prompt and answer differs from generate() by" in evaluator.by_generating
    assert "decode steps" in evaluator.by_generating


def test_a_model_that_can_be_forced_is(loaded, data):
    assert Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH).by_generating is None


@pytest.mark.parametrize("kind", ["answers", "choices"])
def test_generating_and_forcing_give_the_same_figures(loaded, tmp_path, monkeypatch, kind):
    extra = {"answers": None, "choices": ["red", "blue w3", "no"], "answer": 0} if kind == "choices" else {}
    data = load_samples(save_rows(tmp_path, 8, **extra))
    forced = Evaluator(loaded, data, batch_size=6, max_new_tokens=LENGTH)
    wanted = forced.evaluate_many(SCHEDULES, [6, 1, 2])
    monkeypatch.setattr("autoprune.evaluate.evaluator.why_unforced", lambda *_: "for a test")
    stepped = Evaluator(loaded, data, batch_size=6, max_new_tokens=LENGTH)
    assert stepped.by_generating.startswith("for a test")
    for one, other in zip(stepped.evaluate_many(SCHEDULES, [6, 1, 2]), wanted, strict=True):
        assert [dataclasses.replace(r, kl=0.0) for r in one] == [dataclasses.replace(r, kl=0.0) for r in other]
        assert [r.kl for r in one] == pytest.approx([r.kl for r in other], abs=2e-5)
    assert stepped.prompts == forced.prompts
    assert stepped.near_ties == forced.near_ties
    assert [r.text for r in stepped.dense()] == [
        r.text for r in generate_and_score(loaded, data, max_new_tokens=LENGTH)
    ]


def test_the_patch_is_gone_behind_it(unlike, data):
    Evaluator(unlike, data, batch_size=5, max_new_tokens=LENGTH).evaluate(SCHEDULES[0])
    assert "generate" not in unlike.model.__dict__
