"""Criteria of other packages: named ``vendor/name`` in a schedule, refused with a remedy where the package is wrong."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import jsonschema
import pytest
from support.plugins import install

import autoprune
from autoprune.errors import ScheduleError
from autoprune.schedule import Schedule, Stage, parse_criterion

SCHEMA = json.loads((Path(autoprune.__file__).parent / "schedule/schema.json").read_text())
CRITERION = {"name": "acme/norm", "order": "shortest"}


def content(**criterion: object) -> dict[str, object]:
    stages = [{"layer": 2, "keep": {"ratio": 0.5}, "criterion": {**CRITERION, **criterion}}]
    return {"format": "autoprune.schedule", "version": 1, "model": None, "stages": stages, "evidence": {}}


def offer(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Installs a package `broken` whose entry point ``broken/one`` is ``broken:One``."""
    info = folder / "broken-0.1.dist-info"
    info.mkdir(parents=True)
    (folder / "broken.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[autoprune.criteria]\nbroken/one = broken:One\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "broken", raising=False)


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path / "site")


@pytest.mark.usefixtures("acme")
def test_a_schedule_notes_the_package_and_loads_again(tmp_path: Path) -> None:
    schedule = Schedule.model_validate(content())
    schedule.save(tmp_path / "schedule.json")
    saved = json.loads((tmp_path / "schedule.json").read_text())
    assert saved["stages"][0]["criterion"] == {**CRITERION, "requires": "acme-pruning>=1.2"}
    jsonschema.validate(saved, SCHEMA)
    again = Schedule.load(tmp_path / "schedule.json")
    assert again == schedule
    assert again.key == schedule.key
    assert pickle.loads(pickle.dumps(again)) == schedule
    assert autoprune.Schedule.model_validate(again.to_json_dict()) == schedule


@pytest.mark.usefixtures("acme")
def test_what_is_saved_stays_what_the_schedule_asked_for() -> None:
    older = Schedule.model_validate(content(requires="acme-pruning>=1.0"))
    assert older.to_json_dict()["stages"][0]["criterion"]["requires"] == "acme-pruning>=1.0"
    same = Schedule.model_validate(content())
    assert older.key == same.key
    assert {s.criterion.label for s in (*older.stages, *same.stages) if s.criterion} == {"acme/norm order=shortest"}
    assert Schedule.model_validate(content(order="longest")).key != same.key


@pytest.mark.usefixtures("acme")
def test_a_criterion_made_in_python_is_saved_with_its_package() -> None:
    from acme_pruning.criteria import Norm

    stage = Stage(layer=2, keep={"ratio": 0.5}, criterion=Norm(order="shortest"))
    assert stage == Schedule.model_validate(content()).stages[0]


def test_another_version_of_the_package_is_another_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for version in ("1.2", "1.3"):
        with monkeypatch.context() as patch:
            install(patch, tmp_path / version, version=version)
            keys.append(Schedule.model_validate(content(requires="acme-pruning>=1.0")).key)
    assert keys[0] != keys[1]


def test_a_missing_package_is_named() -> None:
    with pytest.raises(ScheduleError) as caught:
        Schedule.model_validate(content(requires="acme-pruning>=1.2"))
    assert str(caught.value).startswith("stages[0].criterion: no installed package brings this criterion")
    assert caught.value.remedy == "pip install 'acme-pruning>=1.2'"
    assert caught.value.value == "acme/norm"
    with pytest.raises(ScheduleError, match="install the package of 'acme'"):
        parse_criterion("acme/norm")


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        ({"requires": "acme-pruning>=9"}, "stages[0].criterion: acme/norm is installed from acme-pruning 1.2 instead"),
        ({"requires": "other-package>=1"}, "acme/norm is installed from acme-pruning 1.2 instead"),
        ({"requires": "acme pruning 1"}, "is no requirement such as"),
        ({"order": "both"}, "stages[0].criterion.order: must be 'longest' or 'shortest' (got 'both')"),
        ({"colour": 1}, "stages[0].criterion.colour: unknown key"),
        ({"name": "acme/nrom"}, "installed are acme/norm"),
    ],
)
def test_wrong_values_are_one_error_that_names_the_field(criterion: dict[str, object], expected: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        Schedule.model_validate(content(**criterion))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("acme")
def test_two_packages_with_one_name_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path / "second", name="zenith-pruning")
    with pytest.raises(ScheduleError, match="several packages bring this criterion: acme-pruning, zenith-pruning"):
        Schedule.model_validate(content())


@pytest.mark.usefixtures("acme")
def test_near_names_reach_plugins() -> None:
    with pytest.raises(ScheduleError, match="use acme/norm"):
        parse_criterion("acme_norm")


HEAD = """
from typing import ClassVar, Literal
from autoprune.schedule import PluginCriterion, Reads
class One(PluginCriterion):
    name: Literal["broken/one"] = "broken/one"
"""
SOURCE = "    source: ClassVar[str] = 'none'\n"
READS = "    @property\n    def reads(self): return Reads.NOTHING\n"
SCORE = "    @staticmethod\n    def score(inputs): return None\n"
MACS = "    @staticmethod\n    def macs(n_candidates, n_rows, width, heads, options): return 0\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (HEAD + SOURCE + READS + MACS, "must have the static methods score and macs: score missing"),
        (HEAD + SOURCE + READS + SCORE, "macs missing"),
        (HEAD + SOURCE + READS + MACS + SCORE.replace("    @staticmethod\n", ""), "score missing"),
        (HEAD + SOURCE + SCORE + MACS, "must declare reads"),
        (HEAD + READS + SCORE + MACS, "must declare source"),
        ((HEAD + SOURCE + READS + SCORE + MACS).replace('"broken/one"', '"broken/two"'), "must declare its name"),
        (HEAD + SOURCE + READS + SCORE + MACS + "    model_config = {'frozen': False}\n", "must stay frozen"),
        ("class One: pass", "must be a subclass of"),
        ("import nothing_of_this_name", "cannot be imported: No module named"),
        ("Two = 1", "cannot be imported: "),
    ],
)
def test_a_class_that_is_no_complete_criterion_is_refused(
    code: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, tmp_path / "broken", code)
    with pytest.raises(ScheduleError) as caught:
        parse_criterion("broken/one")
    assert expected in str(caught.value)
    assert "broken" in str(caught.value.remedy)


def test_a_complete_criterion_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, tmp_path / "broken", HEAD + SOURCE + READS + SCORE + MACS)
    criterion = parse_criterion("broken/one")
    assert (criterion.label, criterion.words) == ("broken/one", "broken/one")
    assert criterion.color.light.startswith("#")


def test_nothing_is_imported_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, tmp_path / "broken", "raise SystemExit")
    assert parse_criterion("text").label == "text"
    with pytest.raises(ScheduleError):
        parse_criterion("texts")


def test_a_local_version_is_noted_without_its_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds from a working tree, or for one CUDA release, are such versions; no requirement may name the label."""
    install(monkeypatch, tmp_path / "site", version="1.3.dev0+g12ab")
    schedule = Schedule.model_validate(content())
    schedule.save(tmp_path / "schedule.json")
    assert schedule.to_json_dict()["stages"][0]["criterion"]["requires"] == "acme-pruning>=1.3.dev0"
    assert Schedule.load(tmp_path / "schedule.json").key == schedule.key


@pytest.mark.usefixtures("acme")
def test_a_criterion_made_in_python_is_held_to_its_package() -> None:
    kind = type(parse_criterion("acme/norm"))

    def made(requires: str) -> Schedule:
        criterion = kind(order="shortest", requires=requires)
        return Schedule(stages=[{"layer": 2, "keep": {"ratio": 0.5}, "criterion": criterion}])

    with pytest.raises(ScheduleError, match="instead"):
        made("acme-pruning>=99")
    assert made("acme-pruning>=1.0").key == Schedule.model_validate(content()).key


@pytest.mark.usefixtures("acme")
def test_an_unknown_option_is_answered_with_the_options_of_the_package() -> None:
    with pytest.raises(ScheduleError, match="did you mean 'order'"):
        Schedule.model_validate({"stages": [{**content()["stages"][0], "criterion": {"name": "acme/norm", "ordr": 1}}]})


def test_a_package_that_fails_on_import_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, tmp_path / "site", "raise RuntimeError('boom')")
    with pytest.raises(ScheduleError, match="cannot be imported: boom"):
        parse_criterion("broken/one")
