"""Whole studies without workers: states, duplicates, rules that stop, resuming, outputs."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
import json
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from support import fake_backend
from support.studies import BACKEND, tiny_spec
from support.trials import assert_all_ended, ended_twice, stored

from autoprune import presets
from autoprune.errors import AutopruneError, DataError, EvaluationError, StorageError, StudyError
from autoprune.report.export import select_point
from autoprune.report.facts import facts
from autoprune.schedule import AttentionCriterion, Keep, Schedule, Stage
from autoprune.search.driver import RunOutcome, run_study
from autoprune.search.front import FrontFile
from autoprune.search.spec import StudySpec
from autoprune.search.workers.protocol import Event

COMPLETE, PRUNED, FAIL = (optuna.trial.TrialState[name] for name in ("COMPLETE", "PRUNED", "FAIL"))


def run(spec: StudySpec, events: list[Event] | None = None) -> RunOutcome:
    return run_study(spec, on_event=(events if events is not None else []).append, backend=BACKEND)


def keys_of(names: list[str]) -> list[str]:
    return [presets.for_depth(name, fake_backend.LAYERS).key for name in names]


def tasks(folder: Path) -> list[str]:
    return (folder / "tasks.log").read_text().splitlines()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudySpec, RunOutcome, list[Event]]:
    """One study of 40 trials that several tests look at."""
    model = {"path": "model", "revision": "v1"}
    spec = tiny_spec(tmp_path_factory.mktemp("study"), search={"trials": 40}, model=model)
    events: list[Event] = []
    return spec, run(spec, events), events


Finished = tuple[StudySpec, RunOutcome, list[Event]]


def test_a_note_leads_from_the_trials_to_the_report(finished: Finished) -> None:
    spec, outcome, _ = finished
    study = optuna.load_study(study_name=spec.name, storage=spec.storage_url)
    said = study._storage.get_study_system_attrs(study._study_id)["dashboard:note_str:0"]
    assert str(outcome.output.resolve() / "report.html") in said


def test_a_study_ends_with_its_trials_and_its_files(finished: Finished) -> None:
    spec, outcome, _ = finished
    assert not outcome.interrupted
    assert outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] == 40
    assert_all_ended(spec)
    front = json.loads((spec.output_path / "front.json").read_text())
    assert list(front)[:2] == ["format", "version"]
    assert set(front) == {"format", "version", "study", "model", "dense", "points", "baselines", "controls", "anchors"}
    assert [b["name"] for b in front["baselines"]] == ["vtw", "fastv", "himap", "pyramiddrop"]
    keys = {
        "trial", "name", "schedule", "flops_ratio", "flops_ratio_end_to_end", "kv_ratio", "accuracy", "accuracy_ci",
        "agreement", "kl", "kl_p90", "samples", "tasks", "validation", "latency",
    }  # fmt: skip
    for point in (front["dense"], *front["points"], *front["baselines"], *front["controls"]):
        assert keys <= set(point)
        Schedule.model_validate(point["schedule"])
    for point in (front["dense"], *front["points"], *front["baselines"]):
        assert point["samples"] == fake_backend.SIZES["calibration"]
        assert (point["validation"] is None) == ("left_out" in point)
        if point["validation"]:
            assert point["validation"]["samples"] == fake_backend.SIZES["validation"]
    assert any(point["latency"] for point in front["points"])
    assert StudySpec.load(spec.output_path / "study.yaml") == spec
    rows = list(csv.DictReader((spec.output_path / "front.csv").open()))
    assert len(rows) == 1 + len(front["points"]) + len(front["baselines"]) + len(front["controls"])


def test_the_front_is_the_complete_trials_that_nothing_dominates(finished: Finished) -> None:
    spec, front = finished[0], finished[1].front
    complete = [t for t in stored(spec) if t.state == COMPLETE and "duplicate_of" not in t.user_attrs]
    values = {t.number: t.values for t in complete}

    def dominated(n: int) -> bool:
        cost, quality = values[n]
        return any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in values.values())

    assert {p.trial for p in front.points} == {n for n in values if not dominated(n)}
    for point in front.points:
        assert [point.flops_ratio, point.accuracy] == values[point.trial or 0]


def test_figures_are_those_of_the_samples(finished: Finished) -> None:
    front = finished[1].front
    for point in (*front.points, *front.baselines):
        schedule = Schedule.model_validate(point.schedule)
        for split, figures in (("calibration", point), ("validation", point.validation)):
            if figures is None:
                continue
            size = fake_backend.SIZES[split]
            mine = [fake_backend.sample(split, schedule, i) for i in range(size)]
            dense = [fake_backend.sample(split, Schedule(), i) for i in range(size)]
            assert figures.accuracy == pytest.approx(sum(r.correct for r in mine) / size)
            assert figures.drop == pytest.approx(sum(r.correct for r in dense) / size - figures.accuracy)
            hard = [r.correct for r in mine if r.task == "hard"]
            assert figures.tasks["hard"].accuracy == pytest.approx(sum(hard) / len(hard))


def test_schedules_carry_the_model_and_their_evidence(finished: Finished) -> None:
    front = finished[1].front
    for point in front.points:
        schedule = Schedule.model_validate(point.schedule)
        assert schedule.model is not None
        assert schedule.model.num_layers == fake_backend.LAYERS
        figures = point.validation or point
        for name in ("flops_ratio", "accuracy", "drop", "drop_se", "samples"):
            assert schedule.evidence[name] == getattr(figures, name)
        assert (schedule.evidence["study"], schedule.evidence["trial"]) == ("tiny", point.trial)
        assert schedule.evidence["calibration_samples"] == fake_backend.SIZES["calibration"]
        assert schedule.evidence["model_revision"] == "v1"


def test_every_selecting_point_near_dense_has_its_four_controls(finished: Finished) -> None:
    front = finished[1].front
    for point in front.points:
        selects = any(s.selects for s in Schedule.model_validate(point.schedule).stages)
        arms = [c for c in front.controls if c.of == point.trial]
        assert len(arms) == (4 if selects and not point.left_out else 0)


def test_a_published_method_is_compared_with_the_best_point_that_costs_no_more(finished: Finished) -> None:
    front = finished[1].front
    verdicts = {v.name: v for v in front.study.presets}
    baselines = {b.name: b for b in front.baselines}
    assert set(verdicts) == set(baselines)
    searched = [p for p in front.points if p.trial not in {b.trial for b in front.baselines} and p.schedule.stages]
    for name, verdict in verdicts.items():
        theirs = baselines[name].validation
        assert theirs is not None
        able = [p for p in searched if p.validation and p.validation.flops_ratio <= theirs.flops_ratio]
        best = max(able, key=lambda p: p.accuracy, default=None)
        assert verdict.beaten == (verdict.verdict == "beaten")
        if best is None:
            assert (verdict.verdict, verdict.by, verdict.difference) == ("not beaten", None, None)
            continue
        by = next(p for p in able if p.trial == verdict.by)
        assert by is best or verdict.beaten
        assert by.validation is not None
        assert verdict.difference == pytest.approx(by.validation.accuracy - theirs.accuracy)
        assert (verdict.samples, verdict.split) == (96, "validation")


def test_racing_stops_candidates_without_values_and_saves_samples(tmp_path: Path) -> None:
    # Cheaper and far better than the withdrawals that are tried next.
    stage = Stage(layer=1, keep=Keep(ratio=0.05), criterion=AttentionCriterion(rows="text"))
    Schedule(stages=(stage,)).save(tmp_path / "good.json")
    sections: dict[str, Any] = {"baselines": ["good.json"], "space": {"criteria": ["text"], "layers": [1, 2, 3]}}
    spec = tiny_spec(tmp_path, search={"trials": 20, "sampler": "random"}, **sections)
    run(spec)
    pruned = [t for t in stored(spec) if t.state == PRUNED]
    assert pruned
    for trial in pruned:
        assert trial.values is None
        assert trial.user_attrs["measured"]["samples"] in (16, 32, 64)
        assert "is better with confidence" in trial.user_attrs["measured"]["reason"]
        assert "accuracy" not in trial.user_attrs["measured"], "part of the rows is no estimate"
    complete = [t for t in stored(spec) if t.state == COMPLETE]
    assert {t.user_attrs["measured"]["samples"] for t in complete} == {128}
    (tmp_path / "run/study.db").unlink()
    patient = tiny_spec(tmp_path, search={"trials": 20, "sampler": "random", "racing": False}, **sections)
    assert run(patient).counts["PRUNED"] == 0


def test_no_schedule_is_measured_twice(tmp_path: Path) -> None:
    space = {"layers": [2, 4], "keep": [0.0, 0.3, 0.5], "criteria": ["text"]}
    run(tiny_spec(tmp_path, space=space, baselines=[], search={"trials": 13}))
    seen: set[tuple[str, ...]] = set()
    for line in tasks(tmp_path):
        _, split, rows, *keys = line.split()
        if split == "latency":
            continue
        for piece in itertools.product((split,), rows.split(","), keys):
            assert piece not in seen
            seen.add(piece)


@pytest.mark.parametrize("sampler", ["gp", "tpe", "nsga2", "random"])
def test_nothing_is_drawn_twice(tmp_path: Path, sampler: str) -> None:
    space = {"layers": [2, 4], "keep": [0.0, 0.3, 0.5], "criteria": ["text"], "max_stages": 2}
    spec = tiny_spec(tmp_path, space=space, baselines=[], search={"trials": 14, "sampler": sampler})
    outcome = run(spec)
    assert outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] == 14
    keys = [t.user_attrs["candidate"]["key"] for t in stored(spec)]
    assert len(keys) == len(set(keys)) == 14


def test_an_exhausted_space_ends_the_study(tmp_path: Path) -> None:
    space = {"layers": [4], "keep": [0.5], "criteria": ["text"], "max_stages": 1}
    events: list[Event] = []
    outcome = run(tiny_spec(tmp_path, space=space, baselines=[], search={"trials": 50, "sampler": "random"}), events)
    assert outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] == fake_backend.LAYERS + 1
    assert any("the space has no more to give" in e.message for e in events)


def test_a_failing_candidate_is_a_failed_trial_and_the_study_goes_on(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path)
    (tmp_path / "failing").write_text(" ".join(keys_of(["fastv"])))
    outcome = run(spec)
    assert outcome.counts["FAIL"] == 1
    assert outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] == 10
    failed = next(t for t in stored(spec) if t.state == FAIL)
    assert failed.user_attrs["measured"]["reason"] == "non-finite logits"
    assert [v.name for v in outcome.front.study.presets if not v.beaten and v.name == "fastv"] == ["fastv"]
    assert outcome.front.study.stopped["failed"] == 1
    assert {t.trial: t.reason for t in outcome.front.study.trials}[failed.number] == "non-finite logits"


def test_five_failures_at_the_start_stop_the_study(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path)
    withdrawals = [presets.vtw(k).key for k in range(fake_backend.LAYERS)]
    (tmp_path / "failing").write_text(" ".join(keys_of(["vtw", "fastv", "himap", "pyramiddrop"]) + withdrawals))
    with pytest.raises(EvaluationError, match=r"5 of 5 candidates failed.*non-finite logits"):
        run(spec)


def test_more_than_half_failing_stops_the_study(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path)
    withdrawals = [presets.vtw(k).key for k in range(fake_backend.LAYERS) if k != 4]
    (tmp_path / "failing").write_text(" ".join(withdrawals))
    with pytest.raises(EvaluationError, match=r"6 of 10 candidates failed"):
        run(spec)


def test_a_failing_dense_model_stops_the_study(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path)
    (tmp_path / "failing").write_text(Schedule().key)
    with pytest.raises(EvaluationError, match="dense model cannot be measured: non-finite logits"):
        run(spec)
    (tmp_path / "failing").unlink()
    (tmp_path / "broken").write_text("")
    with pytest.raises(EvaluationError, match="the dense model gives non-finite logits"):
        run(spec)


def test_a_bug_stops_the_study_with_the_number_of_its_trial(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path)
    (tmp_path / "bug").write_text(" ".join(keys_of(["himap"])))
    with pytest.raises(AutopruneError, match="trial 2 stopped the study: TypeError: a bug") as raised:
        run(spec)
    assert isinstance(raised.value.__cause__, TypeError)
    (tmp_path / "bug").unlink()
    assert run(spec).counts["COMPLETE"] > 0
    assert_all_ended(spec, waiting=True)


def test_images_that_are_gone_stop_the_study_and_are_no_bug(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path)
    (tmp_path / "gone").write_text("validation")
    with pytest.raises(AutopruneError, match=r"stopped: No such file or directory: image\.png") as raised:
        run(spec)
    assert "bug" not in str(raised.value)
    (tmp_path / "gone").unlink()
    assert run(spec).front.study.complete


def test_resuming_continues_and_a_finished_study_measures_nothing_more(tmp_path: Path) -> None:
    first = run(tiny_spec(tmp_path, search={"trials": 8}))
    before = {t.number: (t.state, t.values) for t in stored(tiny_spec(tmp_path))}
    spec = tiny_spec(tmp_path, search={"trials": 14})
    assert run(spec).counts["COMPLETE"] > first.counts["COMPLETE"]
    after = {t.number: (t.state, t.values) for t in stored(spec)}
    assert {n: after[n] for n in before if n in after and before[n][0].is_finished()} == {
        n: v for n, v in before.items() if v[0].is_finished()
    }
    done = len(tasks(tmp_path))
    again = run(spec)
    assert [t for t in tasks(tmp_path)[done:] if " latency " not in t] == []
    assert again.counts["COMPLETE"] + again.counts["PRUNED"] == 14


def test_a_finished_study_does_not_take_up_what_it_gave_up(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, search={"trials": 40, "seed": 1})  # one candidate that it would finish, asked again
    run(spec)
    done = len(tasks(tmp_path))
    run(spec)
    assert [t for t in tasks(tmp_path)[done:] if " latency " not in t] == []


def test_a_resumed_sampler_does_not_repeat_its_draws(tmp_path: Path) -> None:
    few: dict[str, Any] = {
        "baselines": [],
        "space": {"criteria": ["text"]},
    }  # so few initial schedules that the sampler soon draws
    run(tiny_spec(tmp_path, search={"trials": 16, "sampler": "random"}, **few))
    stop = len(stored(tiny_spec(tmp_path, **few)))
    longer = tiny_spec(tmp_path, search={"trials": 22, "sampler": "random"}, **few)
    run(longer)
    drawn = [t for t in stored(longer) if t.user_attrs["candidate"]["origin"] == "sampler"]
    first, second = [[t.params for t in drawn if (t.number < stop) is early] for early in (True, False)]
    assert first
    assert first[0] not in second


def test_a_study_keeps_the_space_that_it_began_with_where_its_file_leaves_it_open(tmp_path: Path) -> None:
    """A study file without a section `space`, begun when other criteria were the default."""
    run(tiny_spec(tmp_path, search={"trials": 5}))
    run(tiny_spec(tmp_path, space={"max_stages": 3}, search={"trials": 8}))
    later = tiny_spec(tmp_path, space=None, search={"trials": 30})
    outcome = run(later)
    assert outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] == 30
    tried = {s["criterion"]["rows"] for t in stored(later) for s in t.user_attrs["candidate"]["schedule"]["stages"]
             if "criterion" in s and t.user_attrs["candidate"]["origin"] != "baseline"}  # fmt: skip
    assert tried == {"last", "text", "visual"}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"objectives": ["kv_bytes", "accuracy"]}, "objectives"),
        ({"space": {"keep": [0.5, 0.25]}}, "space"),
    ],
)
def test_a_study_is_not_resumed_as_another(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    run(tiny_spec(tmp_path, search={"trials": 5}))
    before = (tmp_path / "run/front.json").read_text()
    with pytest.raises(StudyError, match=f"another {named}") as raised:
        run(tiny_spec(tmp_path, search={"trials": 5}, **changed))
    assert raised.value.field == named
    assert (tmp_path / "run/front.json").read_text() == before


BEGUN = ({"evaluation": {"batch_size": 8}}, {"model": {"path": "model", "processor": {"max_pixels": 200}}})
EAGER = {"model": {"path": "model", "attn_implementation": "eager"}}


@pytest.mark.parametrize(
    ("begun", "changed", "field", "before", "now"),
    [
        ({}, BEGUN[0], "evaluation.batch_size", "16", "8"),
        (BEGUN[0], {}, "evaluation.batch_size", "8", "16"),
        ({}, {"evaluation": {"max_new_tokens": 5}}, "evaluation.max_new_tokens", "32", "5"),
        (BEGUN[1], {"model": {"path": "model", "processor": {"max_pixels": 100}}}, "model.processor", "200", "100"),
        (BEGUN[1], {"model": {"path": "model"}}, "model.processor", "200", "None"),
        (
            {},
            {"model": {"path": "model", "attn_implementation": "eager"}},
            "model.attn_implementation",
            "None",
            "eager",
        ),
    ],
)
def test_a_study_is_not_resumed_with_other_settings(
    tmp_path: Path, begun: dict[str, Any], changed: dict[str, Any], field: str, before: str, now: str
) -> None:
    """Told before a model is loaded; and the study as it was still resumes."""
    run(tiny_spec(tmp_path, search={"trials": 5}, **begun))
    done = len(tasks(tmp_path))
    with pytest.raises(StudyError) as raised:
        run(tiny_spec(tmp_path, search={"trials": 5}, **changed))
    assert raised.value.field == field
    assert before in raised.value.message
    assert now in raised.value.value
    assert "restore what it was" in raised.value.remedy
    run(tiny_spec(tmp_path, search={"trials": 5}, **begun))
    assert [t for t in tasks(tmp_path)[done:] if " latency " not in t] == []


@pytest.mark.parametrize(("what", "remedy"), [("dtype", "restore what it was"), ("pixels", "torchvision")])
def test_a_study_is_not_resumed_where_the_model_runs_otherwise(tmp_path: Path, what: str, remedy: str) -> None:
    spec = tiny_spec(tmp_path, search={"trials": 5})
    before = run(spec).front.model.model_dump()[what]
    (tmp_path / what).write_text("another")
    with pytest.raises(StudyError, match=f"another model.{what}: '{before}'") as raised:
        run(spec)
    assert raised.value.field == f"model.{what}"
    assert "another" in raised.value.value
    assert remedy in raised.value.remedy


def test_a_study_that_was_begun_before_pixels_were_noted_resumes_as_before(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, search={"trials": 5})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fake_backend.FakeEngine, "facts", without_pixels(fake_backend.FakeEngine.facts))
        run(spec)
    forget(spec, "evaluation.%", "model.%")
    done = len(tasks(tmp_path))
    (tmp_path / "pixels").write_text("torchvision")
    for _ in range(2):  # nor is it noted by the first time
        run(spec)
        (tmp_path / "pixels").write_text("pil")
    assert [t for t in tasks(tmp_path)[done:] if " latency " not in t] == []


def without_pixels(own: Any) -> Any:
    def facts(engine: fake_backend.FakeEngine) -> Any:
        found = own(engine)
        return dataclasses.replace(found, details={k: v for k, v in found.details.items() if k != "pixels"})

    return facts


def forget(spec: StudySpec, *names: str) -> None:
    """Takes notes out of the database, as it was before they were made."""
    with contextlib.closing(sqlite3.connect(spec.output_path / "study.db")) as database, database:
        for name in names:
            database.execute("DELETE FROM study_user_attributes WHERE key LIKE ?", (name,))


def test_a_trial_that_a_dead_driver_left_running_keeps_its_number(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, search={"trials": 10})
    (tmp_path / "bug").write_text(" ".join(keys_of(["himap"])))
    with pytest.raises(AutopruneError):
        run(spec)  # leaves trial 2 running, as a killed driver does
    assert [t.number for t in stored(spec) if t.state == optuna.trial.TrialState.RUNNING] == [2]
    (tmp_path / "bug").unlink()
    run(spec)
    assert next(t for t in stored(spec) if t.number == 2).state == COMPLETE
    assert_all_ended(spec, waiting=True)
    assert not ended_twice(spec)


def test_an_unreadable_database_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("this is no database, but a text that is long enough to be read as one" * 20)
    spec = tiny_spec(tmp_path, storage="sqlite:///notes.db")
    with pytest.raises(StudyError, match="the database cannot be opened") as raised:
        run(spec)
    assert raised.value.field == "storage"
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "tasks.log").exists()
    assert (tmp_path / "notes.db").read_text().startswith("this is no database")


def test_a_server_that_is_not_there_is_refused(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, storage="postgresql+psycopg://me:secret@127.0.0.1:9/nowhere")
    with pytest.raises(StorageError, match="the database cannot be opened") as raised:
        run(spec)
    assert not (tmp_path / "run").exists()
    assert "secret" not in str(raised.value)


def test_a_bound_on_an_unknown_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="did you mean 'hard'"):
        run(tiny_spec(tmp_path, constraints={"max_drop": {"hart": 0.1}}))
    assert not (tmp_path / "run").exists()


def test_points_keep_the_bounds_of_the_study(tmp_path: Path, finished: Finished) -> None:
    bound = run(tiny_spec(tmp_path, search={"trials": 24}, constraints={"max_drop": {"hard": 0.1}})).front
    assert max(p.tasks["hard"].drop or 0 for p in finished[1].front.points) > 0.1
    assert bound.points
    assert max(p.tasks["hard"].drop or 0 for p in bound.points) <= 0.1


@pytest.mark.parametrize(
    ("objectives", "sampler"),
    [(["flops", "kl"], "nsga2"), (["kv_bytes", "agreement"], "random"), (["latency", "accuracy"], "tpe")],
)
def test_other_objectives_and_samplers(tmp_path: Path, objectives: list[str], sampler: str) -> None:
    spec = tiny_spec(tmp_path, objectives=objectives, search={"trials": 24, "sampler": sampler})
    outcome = run(spec)
    assert outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] == 24
    assert outcome.front.points
    assert_all_ended(spec)


def test_points_that_the_searched_quality_recommends_are_timed(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, objectives=["flops", "kl"], search={"trials": 40})
    front = run(spec).front
    for nats in (0.05, 0.1):
        point = select_point(front, max_drop=nats)
        assert point.latency is not None, nats


def test_three_objectives(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, objectives=["flops", "accuracy", "kl"])
    assert len(run(spec).front.points) > 0


def test_a_baseline_is_beaten_in_the_quality_that_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake_backend.sample
    monkeypatch.setattr(fake_backend, "sample", lambda *given: dataclasses.replace(made(*given), agreement=1.0))
    front = run(tiny_spec(tmp_path, objectives=["flops", "kl", "agreement"], search={"trials": 40})).front
    held_out = {p.trial: p.validation for p in (*front.points, *front.baselines)}
    verdicts = [v for v in front.study.presets if v.beaten]
    assert verdicts
    for verdict in verdicts:
        assert held_out[verdict.by].kl <= held_out[verdict.trial].kl, verdict.name


def test_a_study_without_held_out_rows(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, data={"calibration": {"path": "calibration.jsonl"}})
    front = run(spec).front
    assert all(p.validation is None and p.drop is not None for p in front.points)


def test_the_budget_of_minutes_ends_the_search(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, search={"trials": 1000, "minutes": 0.02})
    outcome = run(spec)
    assert 0 < outcome.counts["COMPLETE"] < 1000
    assert_all_ended(spec, waiting=True)


def test_ctrl_c_finishes_what_runs_and_writes_the_front(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, search={"trials": 12})
    events: list[Event] = []
    started: list[int] = []
    handler = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background of a shell

    def listen(event: Event) -> None:
        events.append(event)
        if event.kind == "trial" and event.done == 7:
            started.append(len(tasks(tmp_path)))
            os.kill(os.getpid(), signal.SIGINT)

    outcome = run_study(spec, on_event=listen, backend=BACKEND)
    assert outcome.interrupted
    assert [len(tasks(tmp_path))] == started, "nothing is started afterwards"
    assert 7 <= outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] <= 12
    assert outcome.counts["RUNNING"] == 0
    front = json.loads((spec.output_path / "front.json").read_text())
    assert front["points"]
    assert front["study"]["complete"] is False
    assert signal.getsignal(signal.SIGINT) is handler
    assert run(spec).counts["COMPLETE"] >= 7
    assert_all_ended(spec, waiting=True)


def test_rows_that_cannot_be_used_stop_before_anything_is_written(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path)
    with pytest.raises(DataError):
        run_study(spec)  # the real backend reads the rows: "{}" has no prompt
    assert not (tmp_path / "run").exists()


def test_progress_is_reported(finished: Finished) -> None:
    events = finished[2]
    phases = [e.message for e in events if e.kind == "phase"]
    assert phases[-3:] == ["searching", "validation and control arms", "latency"]
    told = [e for e in events if e.kind == "trial"]
    assert [e.done for e in told] == sorted(e.done for e in told)
    assert (told[-1].done, told[-1].total) == (40, 40)
    assert json.dumps(told[0].data)


def test_a_search_with_a_bound_on_rows_reports_rows(tmp_path: Path) -> None:
    events: list[Event] = []
    run(tiny_spec(tmp_path, search={"trials": 40, "row_forwards": 600}), events)
    start = next(i for i, e in enumerate(events) if e.kind == "phase" and e.message.startswith("searching"))
    end = next(i for i, e in enumerate(events) if e.kind == "phase" and i > start)
    told = [e for e in events[start:end] if e.kind != "warning"]
    assert {e.total for e in told} == {600}
    assert [e.done for e in told] == sorted(e.done for e in told)
    assert 500 < told[-1].done <= 600


def test_the_share_of_shared_work_is_that_of_all_tasks(finished: Finished) -> None:
    assert finished[1].front.study.hit_rate == 0.75, "the backend says of each task that a quarter of it was run"


def test_the_results_of_another_study_are_not_written_over(tmp_path: Path) -> None:
    run(tiny_spec(tmp_path, search={"trials": 3}))
    before = (tmp_path / "run/front.json").read_text()
    with pytest.raises(StudyError, match="holds the results of the study 'tiny'"):
        run(tiny_spec(tmp_path, name="other", search={"trials": 3}))
    (tmp_path / "run/front.json").write_text("[]")
    with pytest.raises(StudyError, match="another program"):
        run(tiny_spec(tmp_path, search={"trials": 3}))
    (tmp_path / "run/front.json").write_text(before)


@pytest.mark.parametrize("broken", ["", '{"format": "autopr', "[" * 100_000])
def test_a_broken_front_is_written_again_from_the_database(tmp_path: Path, broken: str) -> None:
    first = run(tiny_spec(tmp_path, search={"trials": 3})).front
    (tmp_path / "run/front.json").write_text(broken)
    with pytest.raises(StudyError, match="holds the results of the study 'tiny'"):
        run(tiny_spec(tmp_path, name="other", search={"trials": 3}))
    assert run(tiny_spec(tmp_path, search={"trials": 3})).front.points == first.points
    assert FrontFile.load(tmp_path / "run").points == first.points


def test_bad_input_leaves_nothing_behind(tmp_path: Path) -> None:
    bad: list[dict[str, object]] = [
        {"constraints": {"max_drop": {"hart": 0.1}}}, {"storage": "postgresql+psycopg://me@127.0.0.1:9/x"},
        {"workers": {"count": 1, "gpus": 99}},
    ]  # fmt: skip
    for sections in bad:
        with pytest.raises(AutopruneError):
            run(tiny_spec(tmp_path, output="new/deep/run", **sections))
        assert not (tmp_path / "new").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(AutopruneError):
        run(tiny_spec(tmp_path, **bad[1]))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]
    run(tiny_spec(tmp_path, search={"trials": 3}))
    with pytest.raises(StudyError):  # another space under the same name
        run(tiny_spec(tmp_path, space={"criteria": ["text"]}))
    assert (tmp_path / "run" / "study.db").exists()


def test_a_study_in_a_shared_database_belongs_to_one_output(tmp_path: Path) -> None:
    run(tiny_spec(tmp_path, search={"trials": 2}, storage="sqlite:///shared.db"))
    with pytest.raises(StudyError, match="another output"):
        run(tiny_spec(tmp_path, search={"trials": 2}, storage="sqlite:///shared.db", output="elsewhere"))


def test_ctrl_c_before_anything_is_known_ends_like_ctrl_c(tmp_path: Path) -> None:
    def listen(event: Event) -> None:
        if event.message.startswith("loading"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_study(tiny_spec(tmp_path), on_event=listen, backend=BACKEND)


def test_a_study_that_scores_by_generating_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = fake_backend.FakeEngine.facts
    reason = "its answers cannot be forced, so schedules are scored by generating"

    def generating(engine: fake_backend.FakeEngine) -> Any:
        found = known(engine)
        return dataclasses.replace(found, details={**found.details, "by_generating": reason})

    monkeypatch.setattr(fake_backend.FakeEngine, "facts", generating)
    events: list[Event] = []
    outcome = run(tiny_spec(tmp_path, search={"trials": 2}), events)
    assert reason in [event.message for event in events if event.kind == "warning"]
    assert outcome.front.study.by_generating == reason
    assert ("Scoring", reason) in facts(outcome.front)
