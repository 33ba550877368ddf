"""The evaluator against `generate()` under the patch, one sample at a time, and against plain arithmetic."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter

import pytest
import torch
from support.plugins import install
from support.scenes import save_rows, tiny_model

import autoprune
from autoprune import presets
from autoprune.data.samples import SampleSet, load_samples
from autoprune.errors import DataError, EvaluationError, ModelError, PatchError
from autoprune.evaluate.encoding import encode
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.generate import generate_and_score
from autoprune.evaluate.results import summarise
from autoprune.schedule import Schedule, parse_criterion

CRITERIA = tuple(parse_criterion(name) for name in ("last", "text", "visual", "raters"))
LENGTH = 8


def stages(*parts):
    return Schedule(stages=[{"layer": k, "keep": keep, "criterion": criterion} for k, keep, criterion in parts])


ATTENTION = {"name": "attention", "rows": "all", "normalize": "causal"}
SCHEDULES = {
    "withdraw before the decoder": presets.vtw(0),
    "withdraw": presets.vtw(2),
    "withdraw late": presets.vtw(5),
    "fastv": presets.fastv(),
    "himap": presets.himap((1, 3), (0.5, 0.2)),
    "pyramiddrop": presets.pyramiddrop((2, 3, 5)),
    "random": presets.random(2, 0.3, 1),
    "uniform at the input": presets.uniform(0, 0.5),
    "mass, not recorded": stages((2, {"mass": 0.6}, ATTENTION), (4, {"ratio": 0.0}, None)),
    "current": stages((3, {"ratio": 0.3}, {"name": "attention", "rows": "last", "at": "current"})),
    "raters": stages((2, {"ratio": 0.4}, {"name": "attention", "rows": "raters"})),
    "diversity": stages((1, {"count": 3}, {"name": "diversity"})),
    "no-op first": stages((1, {"ratio": 1.0}, None), (3, {"ratio": 0.25}, {"name": "attention", "rows": "text"})),
}


@pytest.fixture(scope="module")
def evaluator(loaded, data):
    return Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH, criteria=CRITERIA)


@pytest.fixture(scope="module")
def scored(evaluator):
    """Results by name of a schedule; each schedule is evaluated once for all tests."""
    return functools.cache(lambda name: evaluator.evaluate(SCHEDULES[name]))


def generated(loaded, sample, schedule):
    """What a user gets: this sample alone, through the patched model."""
    inputs = encode(loaded.processor, [sample])
    with autoprune.apply(loaded.model, schedule):
        tokens = loaded.model.generate(**inputs, max_new_tokens=LENGTH, do_sample=False)
    return loaded.processor.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("name", SCHEDULES)
def test_answers_are_those_of_generate_sample_by_sample(scored, loaded, data, name):
    assert [result.text for result in scored(name)] == [generated(loaded, s, SCHEDULES[name]) for s in data]


def test_vision_tower_scores_and_merging(loaded, data):
    wanted = Schedule.model_validate(
        {
            "stages": [
                {"layer": 0, "keep": {"ratio": 0.6}, "criterion": {"name": "encoder"}, "merge": "mean"},
                {"layer": 3, "keep": {"ratio": 0.2}, "criterion": {"name": "encoder"}},
            ]
        }
    )
    encoder = Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH, criteria=[parse_criterion("encoder")])
    texts = [result.text for result in encoder.evaluate(wanted)]
    assert texts == [generated(loaded, sample, wanted) for sample in data]


def test_the_schedules_test_both_ways_to_a_verdict(evaluator, scored):
    decided = Counter(result.decided for name in SCHEDULES for result in scored(name))
    assert min(decided[True], decided[False]) > 10
    lengths = {len(result.text.split()) for result in evaluator.dense()}
    assert len(lengths) > 3


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_number_is_that_of_plain_patched_passes(scored, loaded, data, name):
    fast = scored(name)
    slow = generate_and_score(loaded, data, SCHEDULES[name], 3, max_new_tokens=LENGTH)
    for one, other in zip(fast, slow, strict=True):
        assert one.kl == pytest.approx(other.kl, abs=2e-5)
        assert dataclasses.replace(one, kl=0.0, decided=True) == dataclasses.replace(other, kl=0.0)


@pytest.mark.parametrize("recorded", [False, True])
def test_a_criterion_that_looks_at_how_many_stay_is_scored_anew_for_each(loaded, data, tmp_path, monkeypatch, recorded):
    install(monkeypatch, tmp_path / "site")
    scarcity = parse_criterion({"name": "acme/scarcity"})
    criteria = [scarcity] if recorded else []
    evaluator = Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH, criteria=criteria)
    for keep in (0.2, 0.6):
        schedule = stages((2, {"ratio": keep}, scarcity))
        slow = generate_and_score(loaded, data, schedule, 5, max_new_tokens=LENGTH)
        assert [r.text for r in evaluator.evaluate(schedule)] == [r.text for r in slow]


def test_plain_scoring_replays_nothing(loaded, data, monkeypatch):
    def refuse(*args):
        raise AssertionError("the check of the evaluator must not use what it checks")

    monkeypatch.setattr("autoprune.evaluate.prefix.DensePrefix.of", refuse)
    monkeypatch.setattr("autoprune.evaluate.greedy.continue_greedy", refuse)
    assert len(generate_and_score(loaded, data, SCHEDULES["himap"], max_new_tokens=LENGTH)) == len(data)


def test_the_dense_model_agrees_with_itself(evaluator, loaded, data):
    results = evaluator.dense()
    assert [result.text for result in results] == [generated(loaded, s, Schedule()) for s in data]
    for result in results:
        assert (result.agreement, result.kl, result.decided) == (1.0, 0.0, True)
        assert result.flops == result.flops_dense
        assert result.kv_bytes == result.kv_bytes_dense
    summary = summarise(results)
    assert (summary.flops_ratio, summary.flops_ratio_end_to_end, summary.kv_ratio) == (1.0, 1.0, 1.0)


def test_keeping_everything_changes_nothing(evaluator):
    for result, dense in zip(evaluator.evaluate(stages((2, {"ratio": 1.0}, None))), evaluator.dense(), strict=True):
        assert result == dense


def test_the_price_is_that_of_the_cost_model(evaluator, loaded, data):
    for sample, result in zip(data, evaluator.evaluate(SCHEDULES["himap"]), strict=True):
        ids = encode(loaded.processor, [sample])["input_ids"][0]
        visual = int((ids == 4).sum())
        price = autoprune.cost(loaded.config, SCHEDULES["himap"], visual, len(ids) - visual, text_before=2)
        assert visual == 16 * len(sample.images)
        assert (result.flops, result.flops_dense) == (price.decoder_flops, price.decoder_flops_dense)


def test_kl_is_that_of_two_plain_forward_passes(evaluator, loaded, data):
    schedule = SCHEDULES["fastv"]
    result = evaluator.evaluate(schedule, [4])[0]
    inputs = encode(loaded.processor, [data[4]])
    prompt = inputs["input_ids"].shape[1]
    answer = loaded.model.generate(**inputs, max_new_tokens=LENGTH, do_sample=False)
    call = {"input_ids": answer, "pixel_values": inputs["pixel_values"]}
    with torch.no_grad():
        dense = loaded.model(**call).logits[0, prompt - 1 : -1].double().log_softmax(-1)
        with autoprune.apply(loaded.model, schedule) as patch, patch.prompt(prompt):
            pruned = loaded.model(**call).logits[0, prompt - 1 : -1].double().log_softmax(-1)
    assert result.kl == pytest.approx((dense.exp() * (dense - pruned)).sum(-1).mean().item(), abs=1e-5)


def test_batches_and_indices_do_not_change_results(evaluator, loaded, data):
    schedule = SCHEDULES["himap"]
    whole = evaluator.evaluate(schedule)
    some = evaluator.evaluate(schedule, [7, 2, 11])
    assert [result.index for result in some] == [7, 2, 11]
    for one, two in zip(some, [whole[7], whole[2], whole[11]], strict=True):
        assert one.kl == pytest.approx(two.kl, abs=2e-5)
        assert dataclasses.replace(one, kl=0.0) == dataclasses.replace(two, kl=0.0)
    other = Evaluator(loaded, data, batch_size=2, max_new_tokens=LENGTH, order=list(reversed(range(len(data)))))
    for one, two in zip(whole, other.evaluate(schedule), strict=True):
        assert one.kl == pytest.approx(two.kl, abs=2e-5)
        assert dataclasses.replace(one, kl=0.0) == dataclasses.replace(two, kl=0.0)


def test_a_small_memory_gives_the_same_results(evaluator, loaded, data):
    small = Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH, criteria=CRITERIA, cache_bytes=1)
    schedules = [SCHEDULES["fastv"], SCHEDULES["withdraw"]]
    for one, two in zip(small.evaluate_many(schedules), evaluator.evaluate_many(schedules), strict=True):
        assert [r.text for r in one] == [r.text for r in two]
        assert [r.kl for r in one] == pytest.approx([r.kl for r in two], abs=2e-5)


def test_the_vision_tower_runs_once_per_sample_ever(loaded, data):
    seen = []
    tower = loaded.model.model.vision_tower
    handle = tower.register_forward_hook(lambda module, args, kwargs, out: seen.append(len(out[0])), with_kwargs=True)
    try:
        features = 10**6  # room for what the tower makes, not for the passes
        small = Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH, cache_bytes=features)
        for name in ("withdraw before the decoder", "fastv", "current", "diversity"):
            small.evaluate(SCHEDULES[name])
    finally:
        handle.remove()
    priced = 1 + 2  # once for one image and once for two, whose price no other row needs to have counted again
    assert sum(seen) == sum(len(sample.images) for sample in data) + priced


def test_layers_before_the_first_stage_do_not_run(evaluator, loaded):
    evaluator.prepare()
    ran = Counter()

    def count(i):
        # Only passes over a whole prompt: decoding an answer that parted runs every layer, one token at a time.
        return lambda module, args, out: ran.update([i] if out[0].shape[1] > 1 else [])

    layers = loaded.model.get_decoder().layers
    handles = [layer.self_attn.register_forward_hook(count(i)) for i, layer in enumerate(layers)]
    try:
        evaluator.evaluate(stages((4, {"ratio": 0.5}, {"name": "attention", "rows": "text"})))
    finally:
        for handle in handles:
            handle.remove()
    assert set(ran) == {4, 5}


def test_no_trace_is_left_on_the_model(loaded, data):
    def state():
        return [
            (name, sorted(module.__dict__), len(module._forward_hooks), len(module._forward_pre_hooks))
            for name, module in loaded.model.named_modules()
        ]

    before = state()
    fresh = Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH)
    fresh.evaluate(SCHEDULES["himap"])
    assert state() == before


def test_choices_follow_the_log_probability_of_their_tokens(loaded, tmp_path):
    choices = ["red", "blue left", "what 7 yes", "no"]
    data = load_samples(save_rows(tmp_path, 6, answers=None, choices=choices, answer="blue left"))
    evaluator = Evaluator(loaded, data, batch_size=8, max_new_tokens=LENGTH, criteria=CRITERIA)
    for schedule in (Schedule(), SCHEDULES["himap"], SCHEDULES["withdraw"]):
        results = evaluator.evaluate(schedule)
        for sample, result in zip(data, results, strict=True):
            inputs = encode(loaded.processor, [sample])
            prompt, scores = inputs["input_ids"].shape[1], []
            for choice in choices:
                tail = torch.tensor([loaded.processor.tokenizer(choice, add_special_tokens=False)["input_ids"]])
                call = {"input_ids": torch.cat([inputs["input_ids"], tail], 1), "pixel_values": inputs["pixel_values"]}
                with autoprune.apply(loaded.model, schedule) as patch, patch.prompt(prompt), torch.no_grad():
                    logits = loaded.model(**call).logits[0, prompt - 1 : -1].log_softmax(-1)
                scores.append(logits.gather(1, tail.T).sum().item())
            best = max(range(4), key=scores.__getitem__)
            assert result.text == choices[best]
            assert result.correct == float(best == 1)
        slow = generate_and_score(loaded, data, schedule, 8, max_new_tokens=LENGTH)
        assert [(r.text, r.agreement, r.flops) for r in results] == [(r.text, r.agreement, r.flops) for r in slow]
        assert [r.kl for r in results] == pytest.approx([r.kl for r in slow], abs=2e-5)


def test_without_answers_the_dense_answer_is_the_reference(loaded, tmp_path):
    data = load_samples(save_rows(tmp_path, 6, answers=None))
    evaluator = Evaluator(loaded, data, batch_size=4, max_new_tokens=LENGTH)
    assert summarise(evaluator.dense()).accuracy == 1.0
    for result in evaluator.evaluate(SCHEDULES["withdraw"]):
        assert result.correct >= result.agreement


def test_choices_and_questions_mix(loaded, data, tmp_path):
    chosen = load_samples(save_rows(tmp_path, 3, answers=None, choices=["red", "blue"], answer=0))
    both = SampleSet.of([*data.samples[:4], *chosen.samples], "both")
    evaluator = Evaluator(loaded, both, batch_size=4, max_new_tokens=LENGTH)
    results = evaluator.evaluate(SCHEDULES["fastv"])
    assert [result.index for result in results] == list(range(7))
    assert {result.text for result in results[4:]} <= {"red", "blue"}


def test_non_finite_logits_fail_the_candidate_only(loaded, data):
    evaluator = Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH)
    evaluator.prepare()
    norm = loaded.model.get_decoder().layers[3].input_layernorm
    handle = norm.register_forward_hook(lambda module, args, out: out * float("nan"))
    try:
        with pytest.raises(EvaluationError, match="non-finite logits"):
            evaluator.evaluate(presets.vtw(2))
    finally:
        handle.remove()
    assert len(evaluator.evaluate(presets.vtw(2))) == len(data)


def test_a_criterion_that_cannot_be_computed_is_an_error(loaded, data):
    evaluator = Evaluator(loaded, data, max_new_tokens=LENGTH)
    with pytest.raises(PatchError):
        evaluator.evaluate(stages((2, {"ratio": 0.5}, {"name": "encoder"})))


@pytest.mark.parametrize(("setting", "value"), [("repetition_penalty", 1.2), ("min_new_tokens", 2)])
def test_a_model_that_bends_its_logits_is_refused(loaded, data, setting, value):
    config = loaded.model.generation_config
    before = getattr(config, setting)
    setattr(config, setting, value)
    try:
        with pytest.raises(ModelError, match=setting):
            Evaluator(loaded, data)
    finally:
        setattr(config, setting, before)


def test_sampling_settings_are_overruled(loaded, data, evaluator):
    config = loaded.model.generation_config
    before = config.do_sample, config.temperature
    config.do_sample, config.temperature = True, 5.0
    try:
        warm = Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH)
        assert [r.text for r in warm.dense()] == [r.text for r in evaluator.dense()]
    finally:
        config.do_sample, config.temperature = before


def test_bad_arguments(loaded, data):
    for options in ({"batch_size": 0}, {"max_new_tokens": 0}, {"order": [0, 1]}):
        with pytest.raises(DataError):
            Evaluator(loaded, data, **options)
    with pytest.raises(DataError, match="indices"):
        Evaluator(loaded, data, max_new_tokens=LENGTH).evaluate(Schedule(), [len(data)])


def test_near_ties_are_a_share_and_grow_with_coarser_numbers(loaded, data):
    exact = Evaluator(loaded, data, max_new_tokens=LENGTH).near_ties
    coarse = dataclasses.replace(loaded, model=tiny_model(eos_bias=4.0).bfloat16())
    assert 0 <= exact < 0.2
    assert exact <= Evaluator(coarse, data, max_new_tokens=LENGTH).near_ties <= 1


def test_progress_counts_samples(loaded, data):
    calls = []
    Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH).prepare(lambda *done: calls.append(done))
    assert calls[-1] == (12, 12)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_a_dense_model_that_answers_with_images_is_refused(loaded, data):
    model = tiny_model(eos_bias=2.5)
    with torch.no_grad():
        model.lm_head.weight[4] = 3 * model.lm_head.weight[20]
    babbling = dataclasses.replace(loaded, model=model)
    with pytest.raises(ModelError, match="placeholder"):
        Evaluator(babbling, data, max_new_tokens=LENGTH).prepare()
