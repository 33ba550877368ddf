"""Metrics of other packages: found by name, refused with one error, and used for every verdict of a study."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.plugins import install
from support.scenes import save_answered_rows, save_tiny
from support.studies import tiny_spec, write_study

from autoprune import Schedule
from autoprune.data.samples import load_samples
from autoprune.errors import EvaluationError, StudyError
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.metrics import EXACT_MATCH, Metric, evidence_metric, load_metric, measuring_version
from autoprune.evaluate.verify import verify_schedule
from autoprune.models.loading import load_model
from autoprune.search.driver import run_study
from autoprune.search.spec import StudySpec


@pytest.fixture
def installed(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "site")


def test_the_built_in_metric_needs_nothing():
    assert load_metric("exact_match") is EXACT_MATCH
    assert EXACT_MATCH("The two.", ["2"]) == 1.0
    assert EXACT_MATCH.evidence == {}
    assert measuring_version(EXACT_MATCH) == "1"  # addresses of every study before plug-ins


def test_a_metric_of_another_package(installed):
    metric = load_metric("acme/word_share")
    assert metric("a red car", ["red bus"]) == 0.5
    assert metric.evidence == {"metric": {"name": "acme/word_share", "version": 3, "requires": "acme-pruning>=1.2"}}
    assert measuring_version(metric) == "1+acme/word_share@3"


def test_an_error_counts_as_what_is_left(installed):
    assert load_metric("acme/word_error")("a red car", ["red bus"]) == 0.5
    assert load_metric("acme/word_error")("red bus", ["red bus"]) == 1.0


def test_not_installed_names_what_to_install():
    with pytest.raises(
        StudyError, match=r"metric: no installed package .*'acme/word_share'.*install the package of 'acme'"
    ):
        load_metric("acme/word_share")
    with pytest.raises(StudyError, match=r"metric: no such metric .*use exact_match"):
        load_metric("exact_mach")
    noted = {"metric": {"name": "acme/word_share", "version": 3, "requires": "acme-pruning>=1.2"}}
    with pytest.raises(StudyError, match="acme-pruning>=1"):
        evidence_metric(noted)


def test_another_version_than_the_evidence_is_refused(installed):
    assert evidence_metric({"metric": {"name": "acme/word_share", "version": 3}}).version == 3
    with pytest.raises(StudyError, match="rests on version 2 of acme/word_share"):
        evidence_metric({"metric": {"name": "acme/word_share", "version": 2, "requires": "acme-pruning>=1.1"}})


def test_the_same_name_twice_is_an_error(installed, monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "other", name="acme-fork")
    with pytest.raises(StudyError, match="several packages bring this metric: acme-fork, acme-pruning"):
        load_metric("acme/word_share")


def test_what_is_no_metric_is_refused(installed, monkeypatch):
    import acme_pruning.metrics

    monkeypatch.setattr(acme_pruning.metrics.word_share, "direction", "up")
    with pytest.raises(StudyError, match="must be a function"):
        load_metric("acme/word_share")


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_a_verdict_outside_its_range_is_refused(value):
    with pytest.raises(EvaluationError, match="acme/wild gives"):
        Metric("acme/wild", 1, "maximize", lambda text, answers: value)("yes", ["no"])


def test_a_study_file_that_names_a_metric(installed, tmp_path):
    assert tiny_spec(tmp_path / "a", metric="acme/word_share").metric == "acme/word_share"
    assert tiny_spec(tmp_path / "b").metric == "exact_match"
    with pytest.raises(StudyError, match=r"metric: no installed package .*'acme/nothing'.*acme/word_share"):
        StudySpec.load(write_study(tmp_path / "c", metric="acme/nothing"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    model = save_tiny(folder / "model")
    return model, save_answered_rows(folder, model)


def measured_with(study: Path) -> set[str]:
    with closing(sqlite3.connect(study / "run" / "study.db")) as database:
        return {version for (version,) in database.execute("SELECT metric_version FROM autoprune_evaluations")}


def test_it_judges_every_verdict_of_a_study_and_of_its_verification(installed, tiny, tmp_path):
    model, rows = tiny
    options = {"model": {"path": str(model)}, "data": {"calibration": {"path": str(rows)}}, "baselines": ["vtw"]}
    options |= {"search": {"trials": 3, "racing": False}, "space": {"layers": [1, 2], "max_stages": 1}}
    plain = run_study(tiny_spec(tmp_path / "plain", **options)).front
    spec = tiny_spec(tmp_path / "study", metric="acme/word_share", **options)
    front = run_study(spec).front
    assert measured_with(tmp_path / "plain") == {f"1/16/32/{front.model.pixels}"}  # as before there were plug-ins
    assert measured_with(tmp_path / "study") == {f"1+acme/word_share@3/16/32/{front.model.pixels}"}
    loaded, data = load_model(str(model)), load_samples(str(rows))
    own = Evaluator(loaded, data, metric=load_metric("acme/word_share")).dense()
    assert front.dense.accuracy == pytest.approx(sum(r.correct for r in own) / len(own))
    noted = {"name": "acme/word_share", "version": 3, "requires": "acme-pruning>=1.2"}
    written = json.loads((spec.output_path / "front.json").read_text())
    assert written["study"]["metric"] == noted
    assert "metric" not in json.loads(plain.model_dump_json())["study"]
    schedule = Schedule.model_validate(written["baselines"][0]["schedule"])
    assert schedule.evidence["metric"] == noted
    checked = verify_schedule(loaded, schedule, data)
    assert checked.accuracy_dense == pytest.approx(front.dense.accuracy)
    with pytest.raises(StudyError, match="another objectives"):
        run_study(tiny_spec(tmp_path / "study", **options))
