"""The whole analysis on a tiny model: from samples to curves, tasks and HiMAP's layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.evidence import check_evidence
from support.scenes import save_rows, save_tiny

from autoprune.analysis.flow import study
from autoprune.analysis.flow.proposal import propose
from autoprune.analysis.flow.saliency import flow_saliency
from autoprune.analysis.flow.study import analyse_flow
from autoprune.data.samples import load_samples
from autoprune.errors import DataError, EvaluationError, ModelError
from autoprune.evaluate.encoding import encode, force
from autoprune.evaluate.generate import generate_and_score
from autoprune.models.loading import load_model

ARMS = ("cut", "random", "beyond_random")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_model(save_tiny(tmp_path_factory.mktemp("model")))


def rows(folder, **extra):
    return load_samples(save_rows(folder, **extra))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Rows without answers: the dense model's own are right."""
    return rows(tmp_path_factory.mktemp("own"), answers=None)


@pytest.fixture(scope="module")
def found(loaded, own):
    return analyse_flow(loaded, own)


@pytest.fixture(scope="module")
def choices(tmp_path_factory):
    return rows(tmp_path_factory.mktemp("choices"), answers=None, choices=["red", "blue green", "yes"], answer=2)


@pytest.mark.parametrize("loss", ["first", "answer"])
def test_curves_are_means_over_samples_of_what_single_samples_give(loaded, own, loss):
    got = analyse_flow(loaded, own, loss=loss).overall
    flows, tokens = [], []
    for sample in own:
        inputs = encode(loaded.processor, [sample])
        said = loaded.model.generate(**inputs, max_new_tokens=32, do_sample=False)
        answer = said[0, inputs["input_ids"].shape[1] :].tolist()
        forced = force(loaded.model, inputs, [answer[:1] if loss == "first" else answer], 0)
        single = flow_saliency(loaded.model, forced)
        flows.append(single.flows[0].double().numpy())
        tokens.append(single.tokens[0].numpy())
    flows, tokens = np.array(flows), np.array(tokens)
    by_name = {"visual_to_text": (1, 0), "text_to_visual": (0, 1), "visual_to_visual": (0, 0), "text_to_text": (1, 1)}
    for name, (reader, read) in by_name.items():
        plain = flows[:, :, reader, read]
        wanted = {
            "share": plain / flows.sum((1, 2, 3))[:, None],
            "summed": plain,
            "per-token": plain / tokens[:, [read]],
            "read": plain / tokens[:, [reader]],
        }
        for measure, values in wanted.items():
            curve = got.flows[measure][name]
            np.testing.assert_allclose(curve.mean, values.mean(0), rtol=1e-3)
            assert all(low <= mean <= high for low, mean, high in zip(curve.low, curve.mean, curve.high, strict=True))
    everything = [sum(got.flows["share"][n].mean[layer] for n in by_name) for layer in range(6)]
    assert sum(everything) == pytest.approx(1)


def test_the_model_as_it_is_and_cuts_that_no_longer_matter(found):
    part = found.overall
    assert part.accuracy == 1.0
    assert 0 < part.probability < 1
    for cut in part.cuts.values():
        assert cut["cut"]["accuracy_drop"].mean[0] > 0
        assert cut["cut"]["kl"].mean[0] > 0
    # What visual tokens do to each other in the last layer reaches nobody.
    last = {metric: curve.mean[5] for metric, curve in part.cuts["visual_to_visual"]["cut"].items()}
    assert last == pytest.approx({"accuracy_drop": 0, "probability_drop": 0, "kl": 0}, abs=1e-5)
    for metric, smallest in (("kl", 0.1), ("accuracy_drop", 0.05)):
        cut, random, beyond = (part.cuts["visual_to_text"][arm][metric].mean for arm in ARMS)
        np.testing.assert_allclose(beyond, np.subtract(cut, random), atol=1e-6)
        assert np.abs(beyond).max() > smallest


def test_batches_change_nothing(loaded, own, found):
    other = analyse_flow(loaded, own, batch_size=5).overall
    for cut, arms in found.overall.cuts.items():
        for arm, metrics in arms.items():
            for metric, curve in metrics.items():
                np.testing.assert_allclose(other.cuts[cut][arm][metric].mean, curve.mean, atol=2e-4)


def test_a_window_cuts_its_layers_only(loaded, own, found):
    whole, single = found.overall, analyse_flow(loaded, own, window=1).overall
    for cut in whole.cuts:
        last = [part.cuts[cut]["cut"]["kl"].mean[5] for part in (whole, single)]
        assert last[0] == pytest.approx(last[1], abs=1e-5)
    kl = [part.cuts["visual_to_text"]["cut"]["kl"].mean[0] for part in (whole, single)]
    assert kl[1] != pytest.approx(kl[0], rel=0.05)


def test_accuracy_is_that_of_generation_also_with_answers_and_choices(loaded, choices, tmp_path):
    own_answers = generate_and_score(loaded, rows(tmp_path, answers=None))
    accepted = rows(tmp_path, answers=[own_answers[0].text, own_answers[4].text])
    for data in (accepted, choices):
        wanted = [r.correct for r in generate_and_score(loaded, data)]
        got = analyse_flow(loaded, data)
        assert got.overall.accuracy == pytest.approx(np.mean(wanted))
        assert 0 < np.mean(wanted) < 1


def test_the_probability_of_a_choice_is_that_of_all_its_tokens(loaded, tmp_path):
    data = rows(tmp_path, count=4, answers=None, choices=["red", "blue green", "yes"], answer="blue green")
    probabilities = []
    for sample in data:
        inputs = encode(loaded.processor, [sample])
        tokens = loaded.processor.tokenizer.convert_tokens_to_ids(["blue", "green"])
        ids = torch.cat([inputs["input_ids"], torch.tensor([tokens[:1]])], 1)
        with torch.no_grad():
            logits = loaded.model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0, -2:]
        probabilities.append(float(logits.softmax(-1)[[0, 1], tokens].prod()))
    assert analyse_flow(loaded, data).overall.probability == pytest.approx(np.mean(probabilities), rel=1e-3)


def test_tasks_are_analyses_of_their_own_rows(loaded, own, found, tmp_path):
    assert set(found.tasks) == {"t0", "t1"}
    assert [part.samples for part in found.tasks.values()] == [6, 6]
    only = [sample for sample in own if sample.task == "t1"]
    alone = analyse_flow(loaded, type(own).of(only, "t1")).overall
    for measure, directions in found.tasks["t1"].flows.items():
        for name, curve in directions.items():
            np.testing.assert_allclose(curve.mean, alone.flows[measure][name].mean, rtol=1e-4)


def test_the_proposal_is_a_himap_schedule_with_its_evidence(loaded, own, found):
    first, second = found.overall.proposal.layers
    schedule = found.schedule(loaded)
    schedule.check_model(loaded.config)
    stages = [(s.layer, s.keep.ratio, s.criterion.rows) for s in schedule.stages]
    assert stages == [(first, 0.5, "text"), (second, 0.125, "visual")]
    check_evidence(schedule, "autoprune flow", loaded, own)


def synthetic(to_text, to_visual, samples=6):
    """The same flows out of visual tokens in each sample, and much that text reads from text."""
    flows = np.full((samples, len(to_text), 2, 2), 100.0)
    flows[:, :, 1, 0], flows[:, :, 0, 0] = to_text, to_visual
    return flows, list(range(samples))


def test_the_rule_for_the_layers():
    # To text 4 5 1 1 1: before layer 1, 8 of 12 are to come; before layer 2, 3.
    # Together 4 5 1 5 3: before layer 3, 8 of 18; before layer 4, 3 (16.7 %).
    flows, groups = synthetic([4, 5, 1, 1, 1], [0, 0, 0, 4, 2])
    proposal = propose(flows, groups)
    assert proposal.layers == (2, None)
    np.testing.assert_allclose(proposal.to_text.mean, np.array([12, 8, 3, 2, 1]) / 12)
    np.testing.assert_allclose(proposal.to_all.mean, np.array([18, 14, 9, 8, 3]) / 18)
    assert propose(flows, groups, keep=(0.5, 0.2)).layers == (2, 4)
    assert propose(flows, groups, keep=(0.2, 0.2)).layers == (3, 4)
    with pytest.raises(EvaluationError, match=r"no K2: before the last layer up to 16.7%"):
        proposal.checked_layers()
    with pytest.raises(EvaluationError, match=r"no K1: before the last layer up to 8.3%"):
        propose(flows, groups, keep=(0.05, 0.05)).checked_layers()


def test_the_rule_wants_the_upper_end_and_a_layer_to_score_in():
    flows, groups = synthetic([6, 5, 1, 1], [0, 0, 0, 0])
    assert propose(flows, groups, keep=(0.55, 0.2)).layers == (1, 2)
    flows[0, :, 1, 0] = [1, 12, 1, 1]  # one sample reads later: the mean hardly moves, the upper end does
    assert propose(flows, groups, keep=(0.65, 0.2)).layers[0] == 2
    flows, groups = synthetic([6, 0, 5, 1, 1], [0, 0, 0, 0, 0])
    flows[:, 1] = np.nan
    assert propose(flows, groups, keep=(0.6, 0.2)).layers == (1, 3)
    flows, groups = synthetic([0, 6, 5, 1, 1], [0, 0, 0, 0, 0])
    flows[:, 0] = np.nan
    assert propose(flows, groups, keep=(1.0, 0.2)).layers[0] == 2  # layer 1 would be scored in layer 0


def test_what_cannot_be_analysed_is_named(loaded, own, tmp_path):
    with pytest.raises(DataError, match="at least 2 groups"):
        analyse_flow(loaded, rows(tmp_path, count=1))
    with pytest.raises(DataError, match="at least 2 groups"):
        analyse_flow(loaded, rows(tmp_path, group="same"))
    with pytest.raises(ModelError, match="must be 1 to 6"):
        analyse_flow(loaded, own, window=7)
    loaded.model.get_decoder().layers[0].train()
    with pytest.raises(ModelError, match="training mode"):
        analyse_flow(loaded, own)
    loaded.model.eval()


def test_a_prompt_without_its_image_is_named(loaded, own, monkeypatch):
    def blind(loaded, samples):
        inputs = encode(loaded.processor, samples)
        return {**inputs, "input_ids": inputs["input_ids"].masked_fill(inputs["input_ids"] == 4, 60)}

    monkeypatch.setattr(study, "model_inputs", blind)  # a processor that does not check its placeholders
    with pytest.raises(DataError, match=r"row \d+ has no visual token.*chat template"):
        analyse_flow(loaded, own)


def test_a_model_that_is_sure_beyond_its_precision_says_nothing(loaded, own):
    with torch.no_grad():
        loaded.model.lm_head.weight.mul_(1e5)
    try:
        with pytest.raises(DataError, match="no gradient"):
            analyse_flow(loaded, own)
    finally:
        with torch.no_grad():
            loaded.model.lm_head.weight.div_(1e5)
