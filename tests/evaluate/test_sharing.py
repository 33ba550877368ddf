"""Passes that share their first stages, against patched passes of the whole model on the same batch."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from support.scenes import save_rows
from support.zoo import FAMILIES

import autoprune
from autoprune.data.samples import load_samples
from autoprune.evaluate.encoding import force
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.generate import generate_and_score
from autoprune.evaluate.prefix import DensePrefix, Replayer
from autoprune.evaluate.sharing import Sharing
from autoprune.evaluate.trie import tree
from autoprune.evaluate.walk import Walk
from autoprune.schedule import Schedule, parse_criterion

LENGTH = 8
CRITERIA = [
    {"name": "attention", "rows": "last"},
    {"name": "attention", "rows": "text", "heads": "max"},
    {"name": "attention", "rows": "visual"},
    {"name": "attention", "rows": "raters"},
    {"name": "attention", "rows": "all", "normalize": "causal"},
    {"name": "attention", "rows": "text", "at": "current"},
    {"name": "attention", "rows": "last", "combine": "visual"},
    {"name": "encoder"},
    {"name": "diversity"},
    {"name": "random", "seed": 3},
    {"name": "uniform"},
]
RECORDED = tuple(parse_criterion(criterion) for criterion in CRITERIA)


def drawn(seed, depth=6, count=40):
    """Random schedules of one to three stages, most of which begin like another one."""
    rng = random.Random(seed)
    found = []
    while len(found) < count:
        begun = rng.choice(found)[: rng.randint(1, 2)] if found and rng.random() < 0.9 else []
        begun = [stage for stage in begun if stage["keep"].get("ratio") != 0]
        floor = begun[-1]["layer"] + 1 if begun else 0
        for layer in sorted(rng.sample(range(floor, depth), min(rng.randint(1, 3 - len(begun)), depth - floor))):
            stages = [*begun, stage(rng, layer, begun)]
            try:
                Schedule.model_validate({"stages": stages})
            except autoprune.AutopruneError:
                break
            begun = stages
            if begun[-1]["keep"].get("ratio") == 0:
                break
        if begun:
            found.append(begun)
    schedules = [
        Schedule.model_validate({"stages": stages, "positions": "compact" if stages[0]["layer"] == 1 else "keep"})
        for stages in found
    ]
    return [s for s in schedules if all(not x.selects or x.criterion.problem_at(x.layer) is None for x in s.stages)]


def stage(rng, layer, before):
    criterion = rng.choice(CRITERIA)
    last = min((s["keep"].get("ratio", 1.0) for s in before), default=1.0)
    keep = {"ratio": rng.choice([r for r in (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0) if r <= last])}
    if criterion["name"] in ("attention", "encoder") and rng.random() < 0.2:
        keep = {"mass": rng.choice([0.5, 0.8])}
    selects = keep.get("ratio") not in (0.0, 1.0)
    merge = {"merge": "mean"} if selects and rng.random() < 0.3 else {}
    return {"layer": layer, "keep": keep, "criterion": criterion if selects else None} | merge


@pytest.mark.parametrize("seed", range(3))
def test_logits_survivors_and_caches_are_those_of_the_patched_model_to_the_bit(seed):
    zoo = FAMILIES["llava"].build()
    forced = force(zoo.model, zoo.inputs, [[20, 30, 40], [50]], 0)
    schedules = drawn(seed, depth=len(zoo.model.get_decoder().layers))
    keys = [(k, c) for c in RECORDED if c.name == "encoder" for k in range(len(zoo.model.get_decoder().layers))]
    prefix = DensePrefix.of(zoo.model, forced, keys)
    seen = {}

    class Taken(Walk):
        def _take(self, branch, replay, start, end=None):
            seen.update(dict.fromkeys(branch.ends, replay))

    batch = SimpleNamespace(dense_pass=prefix)
    runs = [SimpleNamespace(add_dense=lambda batch: None)] * len(schedules)
    with Replayer(zoo.model) as replayer:
        Taken(batch, replayer, runs, SimpleNamespace(), 2**30).through(tree(schedules))
    assert len(seen) > 20
    for place, replay in seen.items():
        positions = zoo.model._prepare_position_ids_for_generation(forced.inputs["input_ids"], dict(forced.inputs))
        with autoprune.apply(zoo.model, schedules[place]) as patch, patch.prompt(forced.ends), torch.no_grad():
            out = zoo.model(**forced.inputs, position_ids=positions, logits_to_keep=forced.width)
        torch.testing.assert_close(replay.logits[forced.valid], out.logits[forced.valid], rtol=0, atol=0)
        alive = patch.report.visual_tokens
        assert all(tuple(alive[k].tolist()) == counts for k, counts in replay.counts.items())
        for ours, theirs in zip(replay.layers, out.past_key_values.layers, strict=True):
            filled = getattr(theirs, "filled", forced.inputs["attention_mask"].bool())
            for one, two in ((ours.keys, theirs.keys), (ours.values, theirs.values)):
                assert torch.equal(one.transpose(1, 2)[filled], two.transpose(1, 2)[filled])
            assert torch.equal(getattr(ours, "columns", forced.ends), getattr(theirs, "columns", forced.ends))


@pytest.mark.parametrize("kind", ["answers", "choices"])
def test_verdicts_of_many_schedules_are_those_of_plain_patched_passes(loaded, data, tmp_path, kind):
    if kind == "choices":
        data = load_samples(save_rows(tmp_path, 6, answers=None, choices=["red", "blue left", "no"], answer="red"))
    schedules = drawn(7, count=14)
    evaluator = Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH, criteria=RECORDED)
    texts = Counter()
    for schedule, results in zip(schedules, evaluator.evaluate_many(schedules), strict=True):
        plain = generate_and_score(loaded, data, schedule, 5, max_new_tokens=LENGTH)
        for one, other in zip(results, plain, strict=True):
            assert (one.text, one.correct, one.agreement, one.flops) == (
                other.text,
                other.correct,
                other.agreement,
                other.flops,
            )
            assert one.kl == pytest.approx(other.kl, abs=2e-5)
        texts.update(result.text for result in results)
    assert len(texts) > 1


def test_a_list_gives_what_its_schedules_give_alone(loaded, data):
    schedules = drawn(11, count=20)
    evaluator = Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH, criteria=RECORDED)
    for schedule, results in zip(schedules, evaluator.evaluate_many(schedules), strict=True):
        alone = evaluator.evaluate(schedule)
        assert [r.text for r in results] == [r.text for r in alone]
        assert [r.kl for r in results] == [r.kl for r in alone]


def test_without_memory_for_shared_passes_results_are_the_same_and_nothing_is_shared(loaded, data):
    schedules = drawn(5, count=30)
    options = {"batch_size": 5, "max_new_tokens": LENGTH, "criteria": RECORDED}
    rich, poor = Evaluator(loaded, data, **options), Evaluator(loaded, data, **options, cache_bytes=1)
    for one, two in zip(rich.evaluate_many(schedules), poor.evaluate_many(schedules), strict=True):
        assert [r.text for r in one] == [r.text for r in two]
        assert [r.kl for r in one] == pytest.approx([r.kl for r in two], abs=2e-5)
    assert rich.sharing.run < poor.sharing.run
    assert (rich.sharing.by_prefix, rich.sharing.from_scratch) == (poor.sharing.by_prefix, poor.sharing.from_scratch)


def test_work_is_counted_in_tokens_and_layers(loaded, data):
    first = {"layer": 2, "keep": {"count": 4}, "criterion": {"name": "uniform"}}
    schedules = [Schedule(stages=[first, {"layer": k, "keep": {"ratio": 0.0}}]) for k in (4, 5)]
    evaluator = Evaluator(loaded, data, batch_size=5, max_new_tokens=LENGTH)
    evaluator.evaluate_many(schedules)
    tokens = visual = 0
    for batch in evaluator._batches:
        tokens += int(batch.forced.inputs["attention_mask"].sum())
        visual += sum(counted.visual for counted in batch.counts)
    text, images = tokens - visual, sum(any(s.images) for s in data)
    below = 2 * text + text
    shared = 3 * (text + 4 * images)
    alone = 2 * (text + 4 * images) + 2 * text + shared + text
    assert evaluator.sharing == Sharing(shared + below, alone, alone + 2 * 2 * tokens)
    assert evaluator.sharing.hit_rate == pytest.approx(1 - (shared + below) / (alone + 4 * tokens))
