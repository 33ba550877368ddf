"""A schedule of a deeper model carried over to a random LLaVA of six layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.scenes import save_rows, save_tiny

from autoprune.data.samples import SampleSet, load_samples
from autoprune.errors import ModelError, ScheduleError
from autoprune.evaluate.generate import generate_and_score
from autoprune.models.loading import LoadedModel, load_model
from autoprune.schedule import Keep, ModelIdentity, Schedule, Stage, parse_criterion
from autoprune.search.transfer import transfer_schedule

BIG = ModelIdentity(name="big", model_type="llava", num_layers=24, hidden_size=64, config_sha256="0" * 64)


def made(*layers: int, **options: Any) -> Schedule:
    stages = [
        Stage(layer=k, keep=Keep(ratio=0.5 / (n + 1)), criterion=parse_criterion("text")) for n, k in enumerate(layers)
    ]
    return Schedule(model=BIG, stages=tuple(stages), evidence={"drop": 0.01, "drop_se": 0.01}, **options)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(str(save_tiny(tmp_path_factory.mktemp("tiny"), eos_bias=2.5)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    return load_samples(str(save_rows(tmp_path_factory.mktemp("rows"), count=8, seed=0)))


def test_without_a_local_search_it_is_mapped_and_measured(loaded: LoadedModel, data: SampleSet) -> None:
    outcome = transfer_schedule(loaded, made(8, 16), data, name="small", tries=0)
    schedule = outcome.schedule
    assert [s.layer for s in schedule.stages] == [2, 4]
    assert schedule.model is not None
    assert (schedule.model.name, schedule.model.num_layers) == ("small", 6)
    assert schedule.evidence["mapped_from"] == {"model": "big", "depth": 24, "layers": [8, 16]}
    slow = generate_and_score(loaded, data, schedule, 8)
    assert outcome.found.summary.accuracy == sum(r.correct for r in slow) / len(slow)
    assert schedule.evidence["drop"] == outcome.found.summary.drop
    assert (outcome.tried, outcome.steps, outcome.note) == (0, 0, None)
    schedule.check_model(loaded.config)


def test_the_local_search_never_costs_more_nor_loses_more(loaded: LoadedModel, data: SampleSet) -> None:
    outcome = transfer_schedule(loaded, made(8, 16), data, tries=12)
    before, after = outcome.mapped.summary, outcome.found.summary
    assert 0 < outcome.tried <= 12
    assert after.flops_ratio <= before.flops_ratio
    assert after.accuracy >= before.accuracy
    moved = outcome.found.schedule.key != outcome.mapped.schedule.key
    assert moved == (outcome.steps > 0)
    assert outcome.schedule.key == outcome.found.schedule.key
    again = transfer_schedule(loaded, made(8, 16), data, tries=12)
    assert again.to_dict() == outcome.to_dict()


def test_steps_are_taken_where_a_cheaper_schedule_is_as_good(loaded: LoadedModel, data: SampleSet) -> None:
    """A stage that keeps nearly all before the last layer: nearly every neighbour is cheaper."""
    stage = Stage(layer=23, keep=Keep(ratio=0.9), criterion=parse_criterion("last"))
    outcome = transfer_schedule(loaded, Schedule(model=BIG, stages=(stage,)), data, tries=24)
    assert outcome.steps > 0
    assert outcome.found.summary.flops_ratio < outcome.mapped.summary.flops_ratio


def test_what_no_neighbour_does_is_measured_alone(loaded: LoadedModel, data: SampleSet) -> None:
    outcome = transfer_schedule(loaded, made(8, positions="compact"), data, tries=4)
    assert outcome.tried == 0
    assert outcome.note is not None
    assert outcome.note.startswith("no local search")
    assert outcome.schedule.positions == "compact"


def test_what_cannot_be_carried_over_is_refused(loaded: LoadedModel, data: SampleSet, tmp_path: Path) -> None:
    deep = made(0 + 1, *range(2, 9))
    with pytest.raises(ScheduleError, match="needs layer 8, the model has layers 0 to 5"):
        transfer_schedule(loaded, deep, data)
    with pytest.raises(ScheduleError, match="prunes nothing"):
        transfer_schedule(loaded, Schedule(), data)
    gone = parse_criterion({"name": "codebook", "path": str(tmp_path / "gone.safetensors"), "sha256": "0" * 64})
    stage = Stage(layer=0, keep=Keep(ratio=0.5), criterion=gone)
    with pytest.raises(ModelError, match="this model cannot run it: there is no such codebook"):
        transfer_schedule(loaded, Schedule(stages=(stage,)), data)
