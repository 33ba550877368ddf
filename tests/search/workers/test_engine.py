"""The real engine on a random LLaVA, against generating with each schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.scenes import save_answered_rows, save_tiny

from autoprune import presets
from autoprune.data.samples import load_samples
from autoprune.errors import DataError
from autoprune.evaluate.generate import generate_and_score
from autoprune.models.loading import load_model
from autoprune.schedule import Schedule
from autoprune.search.inputs import plan_study
from autoprune.search.racing import race_order
from autoprune.search.sections import Evaluation
from autoprune.search.spec import StudySpec
from autoprune.search.workers.engine import ModelEngine, open_engine, read_inputs

SCHEDULES = [presets.for_depth(name, 6) for name in ("himap", "vtw", "pyramiddrop")]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> StudySpec:
    folder = tmp_path_factory.mktemp("study")
    save_tiny(folder / "model", eos_bias=2.5)
    study: dict[str, Any] = {
        "name": "real",
        "model": {"path": "model"},
        "output": "run",
        "workers": {"count": 0},
        "data": {},
    }
    for name, count, seed in (("calibration", 24, 0), ("validation", 20, 1)):
        (folder / name).mkdir()
        study["data"][name] = {"path": str(save_answered_rows(folder / name, folder / "model", count=count, seed=seed))}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return StudySpec.load(folder / "study.yaml")


@pytest.fixture(scope="module")
def engine(spec: StudySpec) -> ModelEngine:
    return open_engine(spec)


def test_verdicts_are_those_of_generating_in_the_order_of_the_race(spec: StudySpec, engine: ModelEngine) -> None:
    data = load_samples(spec.data.calibration.path)
    loaded = load_model(spec.model.path)
    order = race_order(len(data))
    for schedule, found in zip(SCHEDULES, engine.evaluate("calibration", SCHEDULES, order), strict=True):
        slow = {
            r.id: r for r in generate_and_score(loaded, data, schedule, 8, max_new_tokens=Evaluation().max_new_tokens)
        }
        assert [r.id for r in found] == [data[i].id for i in order]
        assert [(r.text, r.correct) for r in found] == [(slow[r.id].text, slow[r.id].correct) for r in found]


def test_any_rows_are_those_of_the_whole(engine: ModelEngine) -> None:
    whole = engine.evaluate("calibration", SCHEDULES[:1], range(24))[0]
    assert [r.index for r in whole] == list(range(24))
    for rows in ((3, 17, 4), range(16), (23, 0)):
        piece = engine.evaluate("calibration", SCHEDULES[:1], rows)[0]
        assert [(r.id, r.text, r.flops) for r in piece] == [(whole[i].id, whole[i].text, whole[i].flops) for i in rows]


def test_held_out_pieces_know_their_place(engine: ModelEngine) -> None:
    rows = [*range(8, 20), 3]
    dense, pruned = engine.evaluate("validation", [Schedule(), SCHEDULES[0]], rows)
    assert [r.index for r in dense] == [r.index for r in pruned] == rows
    assert [r.id for r in dense] == [str(i) for i in rows]
    assert all(r.flops == r.flops_dense for r in dense)
    assert all(r.flops < r.flops_dense for r in pruned)


def test_facts_and_times(spec: StudySpec, engine: ModelEngine) -> None:
    facts = engine.facts()
    assert facts.fingerprint == load_model(spec.model.path).fingerprint
    assert facts.details["visual_tokens"] > 0
    times = engine.latency(SCHEDULES[:2])
    assert all(t["prefill_ms"] and t["prefill_dense_ms"] and t["end_to_end_ms"] for t in times)
    assert times[0]["prefill_dense_ms"] == times[1]["prefill_dense_ms"]


def test_inputs_are_read_without_a_model(spec: StudySpec) -> None:
    inputs = read_inputs(spec)
    assert inputs.num_layers == 6
    assert (inputs.calibration.size, inputs.validation and inputs.validation.size) == (24, 20)
    assert inputs.calibration.groups == tuple(f"g{i // 2}" for i in range(24))


def test_a_plan_says_what_would_happen(spec: StudySpec) -> None:
    plan = plan_study(spec).to_dict()
    assert plan["initial_schedules"] == {"baseline": 10, "sweep": 5, "probe": 40}  # one withdrawal is VTW's
    assert {"encoder + merge", "diversity", "raters"} <= set(plan["methods"])
    assert [line.split(":")[0] for line in plan["left_out"]] == ["baseline fitprune", "baseline codebook"]
    assert (plan["num_layers"], plan["calibration_samples"], plan["validation_samples"]) == (6, 24, 20)
    assert plan["tasks"] == ("t0", "t1")
    assert plan["calibration_rows"] == {"answers": 24, "several images": 8}
    assert plan["validation_rows"]["answers"] == 20
    assert plan["unread_columns"] == ()
    assert not Path(spec.output).exists()


def test_bad_rows_are_named(spec: StudySpec) -> None:
    path = Path(spec.data.calibration.path)
    bad = path.with_name("bad.jsonl")
    bad.write_text(path.read_text() + '{"images": ["missing.png"], "prompt": "what", "answers": ["1"]}\n')
    section = spec.data.calibration.model_copy(update={"path": str(bad)})
    with pytest.raises(DataError, match=r"missing\.png"):
        read_inputs(spec.model_copy(update={"data": spec.data.model_copy(update={"calibration": section})}))


def test_the_facts_say_that_schedules_are_scored_by_generating(
    spec: StudySpec, engine: ModelEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "by_generating" not in engine.facts().details
    monkeypatch.setattr("autoprune.evaluate.evaluator.why_unforced", lambda *_: "for a test")
    assert open_engine(spec).facts().details["by_generating"].startswith("for a test, so schedules are scored by")
