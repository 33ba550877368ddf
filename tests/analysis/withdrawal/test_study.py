"""The sweep over a data set against one patched run per layer and row."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from support.evidence import check_evidence
from support.flops import count_flops, countable_attention
from support.scenes import save_rows, tiny_model, tiny_processor
from support.versions import needs
from support.zoo import FAMILIES

from autoprune import apply, presets
from autoprune.analysis.withdrawal.study import _flops_ratio, sweep
from autoprune.analysis.withdrawal.sweep import withdrawal_sweep
from autoprune.data.samples import SampleSet, load_samples
from autoprune.errors import DataError, ModelError
from autoprune.evaluate.encoding import encode
from autoprune.evaluate.generate import generate_and_score
from autoprune.models.loading import LoadedModel
from autoprune.pricing.cost import Pricer
from autoprune.pricing.counting import vision_flops
from autoprune.schedule import Schedule

NEW_TOKENS = 5


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    model = tiny_model(eos_bias=2.0)
    return LoadedModel(model, tiny_processor(), "tiny", "0" * 64, model.config)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> SampleSet:
    return load_samples(save_rows(tmp_path_factory.mktemp("rows"), count=8))


@pytest.fixture(scope="module")
def result(loaded, data):
    return sweep(loaded, data, max_new_tokens=NEW_TOKENS)


@pytest.fixture(scope="module")
def patched(loaded, data):
    """What plain patched runs of every layer give for every row."""
    return [generate_and_score(loaded, data, presets.vtw(k), batch_size=1, max_new_tokens=NEW_TOKENS) for k in range(6)]


def test_curves_are_those_of_patched_runs(result, patched, data):
    for k, rows in enumerate(patched):
        wanted = [row.kl for row in rows]
        assert result.answer["dense_withdrawn"].mean[k] == pytest.approx(np.mean(wanted), rel=1e-3, abs=1e-5)
        assert result.answer["dense_withdrawn"].p90[k] == pytest.approx(np.quantile(wanted, 0.9), rel=1e-3, abs=1e-5)
        assert result.same[k] == pytest.approx(np.mean([row.agreement for row in rows]))
        spent, dense = sum(row.flops for row in rows), sum(row.flops_dense for row in rows)
        assert result.flops_ratio[k] == pytest.approx(spent / dense)
    assert np.ptp(result.same) > 0, "answers must change somewhere"
    assert result.samples == len(data)
    assert result.groups == 4


def test_tasks_are_means_over_their_rows(result, patched):
    assert {task: part["samples"] for task, part in result.tasks.items()} == {"t0": 4, "t1": 4}
    for task, part in result.tasks.items():
        for k, rows in enumerate(patched):
            mine = [row for row in rows if row.task == task]
            assert part["kl"][k] == pytest.approx(np.mean([row.kl for row in mine]), rel=1e-3, abs=1e-5)
            assert part["same"][k] == pytest.approx(np.mean([row.agreement for row in mine]))


def test_the_first_token_alone(loaded, data):
    found = sweep(loaded, data, max_new_tokens=1)
    assert found.answer_tokens == 1
    assert found.answer == found.first
    inputs = encode(loaded.processor, [data[0]])
    with torch.no_grad():
        dense = loaded.model(**inputs).logits[0, -1].log_softmax(-1)
        with apply(loaded.model, presets.vtw(3)):
            withdrawn = loaded.model(**inputs).logits[0, -1].log_softmax(-1)
    alone = sweep(loaded, SampleSet.of([data[0]], "one"), rule="vtw-compat", max_new_tokens=1)
    wanted = float((withdrawn.exp() * (withdrawn - dense)).sum())
    assert alone.first["withdrawn_dense"].mean[3] == pytest.approx(wanted, rel=1e-4)
    assert set(alone.first["withdrawn_dense"].low) == {None}
    assert "robust" not in alone.choices


def test_the_choice_is_a_schedule_that_does_what_it_says(loaded, data, result):
    assert result.layer is None
    dense = result.schedule(loaded)
    assert dense.stages == ()
    assert dense.evidence["rule"] == "robust"
    easy = sweep(loaded, data, eta=result.bound[3] * 1.001, max_new_tokens=NEW_TOKENS)
    assert easy.layer is not None
    schedule = Schedule.model_validate(easy.schedule(loaded).to_json_dict())
    schedule.check_model(loaded.config)
    check_evidence(schedule, "autoprune sweep", loaded, data)
    assert [(s.layer, s.keep.ratio) for s in schedule.stages] == [(easy.layer, 0.0)]
    kl = schedule.evidence["answer"]["dense_withdrawn"]
    assert kl["ci"][0] <= kl["mean"] <= kl["ci"][1]
    assert kl["mean"] < schedule.evidence["bound"] <= easy.eta
    with apply(loaded.model, schedule) as patch, torch.no_grad():
        loaded.model(**encode(loaded.processor, [data[0]]))
        assert patch.report.active


def test_progress_counts_rows(loaded, data):
    told = []
    sweep(loaded, data, max_new_tokens=1, on_sample=lambda done, total: told.append((done, total)))
    assert told == [(n, 8) for n in range(1, 9)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "vtw"}, r"rule: no such rule \(got 'vtw'\); use robust or vtw-compat"),
        ({"eta": 0.0}, r"eta: must be above 0"),
        ({"eta": float("nan")}, r"eta: must be above 0"),
        ({"max_new_tokens": 0}, r"max_new_tokens: must be at least 1"),
    ],
)
def test_bad_arguments_are_named(loaded, data, options, message):
    with pytest.raises(DataError, match=message):
        sweep(loaded, data, **options)


def test_bad_rows_and_models_are_named(loaded, data):
    with pytest.raises(DataError, match="at least 4 groups"):
        sweep(loaded, SampleSet.of([data[0]], "one"))
    blind = LoadedModel(loaded.model, _Blind(loaded.processor), "blind", "", loaded.config)
    with pytest.raises(DataError, match="row 0 has no visual token"):
        sweep(blind, data)
    loaded.model.train()
    with pytest.raises(ModelError, match="training mode"):
        sweep(loaded, data)
    loaded.model.eval()


class _Blind:
    """A processor that leaves the image out."""

    def __init__(self, processor) -> None:
        self.tokenizer, self.chat_template = processor.tokenizer, processor.chat_template
        self.apply_chat_template = processor.apply_chat_template

    def __call__(self, text, **options):
        return self.tokenizer([t.replace("<image>", "") for t in text], return_tensors="pt")


@pytest.mark.wide
@needs("5.23", "the family is that of the pinned release")
def test_text_that_goes_to_the_experts_of_images_is_priced_so() -> None:
    """As the operation counter sees the patched prefill."""
    zoo = FAMILIES["ernie4_5_vl_moe"].build(plan=[[0]])
    model = zoo.model.requires_grad_(False)
    model.set_experts_implementation("eager")
    ratios = _flops_ratio(Pricer(model.config, 4), withdrawal_sweep(model, [zoo.inputs], max_new_tokens=1))
    counted = []
    for layer in (None, 2):
        with countable_attention(model, "eager"), nullcontext() if layer is None else apply(model, presets.vtw(layer)):
            counted.append(count_flops(lambda: model(**zoo.inputs, use_cache=True, logits_to_keep=1)))
    outside = vision_flops(model, zoo.inputs) + 2 * model.lm_head.weight.numel()
    assert ratios[2] == (counted[1] - outside) / (counted[0] - outside)
