"""The schedule file: loads for ever, round-trips, refuses everything that it does not understand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from support.schemas import command

import autoprune
from autoprune import Schedule, presets
from autoprune.errors import AutopruneError, ScheduleError
from autoprune.schedule import Keep, ModelIdentity, parse_criterion
from autoprune.schedule.schema import schedule_schema

FOLDER = Path(__file__).parent.parent / "golden"
GOLDEN = FOLDER / "schedule.v1.json"
SCHEMA = json.loads((Path(autoprune.__file__).parent / "schedule/schema.json").read_text())
TEXT = {"name": "attention", "rows": "text"}


def stage(layer: int = 2, criterion: Any = TEXT, **keep: Any) -> dict:
    return {"layer": layer, "keep": keep or {"ratio": 0.5}, **({"criterion": criterion} if criterion else {})}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("schedule.*.json")), ids=lambda p: p.name)
def test_golden_files_load_and_are_written_as_read(path: Path, tmp_path: Path) -> None:
    schedule = Schedule.load(path)
    schedule.save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(path.read_text())
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    assert Schedule.load(tmp_path / "again.json") == schedule
    assert [p.name for p in tmp_path.iterdir()] == ["again.json"]


def test_shipped_json_schema_is_current_and_accepts_what_is_written() -> None:
    assert schedule_schema() == SCHEMA, command(
        "autoprune.schedule.schema", "schedule_schema", "autoprune/schedule/schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for name in presets.NAMES:
        jsonschema.validate(presets.for_depth(name, 32).to_json_dict(), SCHEMA)


BAD = {
    "unknown key": ({"stages": [], "color": 1}, "color"),
    "unknown version": ({"version": 2, "stages": []}, "version"),
    "ratio above one": ({"stages": [stage(ratio=1.5)]}, "stages[0].keep.ratio"),
    "negative layer": ({"stages": [stage(layer=-1)]}, "stages[0].layer"),
    "layer as text": ({"stages": [stage(layer="2")]}, "stages[0].layer"),
    "count zero": ({"stages": [stage(count=0)]}, "stages[0].keep.count"),
    "mass zero": ({"stages": [stage(mass=0.0)]}, "stages[0].keep.mass"),
    "two rules": ({"stages": [stage(ratio=0.5, count=3)]}, "exactly one"),
    "no rule": ({"stages": [{"layer": 2, "keep": {}, "criterion": TEXT}]}, "exactly one"),
    "not a number": ({"stages": [stage(ratio=float("nan"))]}, "stages[0].keep.ratio"),
    "no criterion": ({"stages": [stage(criterion=None)]}, "criterion"),
    "criterion without a name": ({"stages": [stage(criterion={"rows": "text"})]}, "needs a name"),
    "name as a list": ({"stages": [stage(criterion={"name": ["attention"]})]}, "needs a name"),
    "unknown criterion": ({"stages": [stage(criterion={"name": "vibes"})]}, "stages[0].criterion"),
    "unknown criterion has a list": (
        {"stages": [stage(criterion={"name": "vibes"})]},
        "attention, codebook, diversity",
    ),
    "criterion misspelled": ({"stages": [stage(criterion={"name": "divresity"})]}, "use diversity"),
    "count beyond any sequence": ({"stages": [stage(count=10**400)]}, "stages[0].keep.count"),
    "count that Python does not print": ({"stages": [stage(count=10**5000)]}, "stages[0].keep.count"),
    "layer beyond any depth": ({"stages": [stage(layer=10**400)]}, "stages[0].layer"),
    "unknown rows": ({"stages": [stage(criterion={**TEXT, "rows": "some"})]}, "stages[0].criterion.rows"),
    "unknown option": ({"stages": [stage(criterion={**TEXT, "colour": 1})]}, "stages[0].criterion.colour"),
    "divided twice": (
        {"stages": [stage(criterion={**TEXT, "normalize": "causal", "reduce": "mean"})]},
        "normalize",
    ),
    "mass of random": ({"stages": [stage(criterion={"name": "random"}, mass=0.5)]}, "keep.mass"),
    "threshold of uniform": ({"stages": [stage(criterion={"name": "uniform"}, threshold=0.5)]}, "keep.threshold"),
    "attention before the first layer": ({"stages": [stage(layer=0)]}, "layer 0"),
    "layers out of order": ({"stages": [stage(layer=3), stage(layer=3)]}, "stages[1].layer"),
    "after a withdrawal": ({"stages": [stage(ratio=0.0), stage(layer=5)]}, "stages[1]"),
    "ratios that grow": ({"stages": [stage(ratio=0.2), stage(layer=5, ratio=0.3)]}, "stages[1].keep.ratio"),
    "counts that grow": ({"stages": [stage(count=2), stage(layer=5, count=3)]}, "stages[1].keep.count"),
    "unknown positions": ({"stages": [], "positions": "dense"}, "positions"),
    "the same rows twice": ({"stages": [stage(criterion={**TEXT, "combine": "text"})]}, "combine"),
    "a share of ranks": ({"stages": [stage(criterion={**TEXT, "combine": "visual"}, mass=0.5)]}, "keep.mass"),
    "merging into nothing": ({"stages": [{**stage(ratio=0.0), "merge": "mean"}]}, "merge"),
    "evidence that is no JSON": ({"stages": [], "evidence": {"drop": [float("nan")]}}, "evidence"),
    "unknown merge": ({"stages": [{**stage(), "merge": "max"}]}, "stages[0].merge"),
    "seed out of range": ({"stages": [stage(criterion={"name": "random", "seed": 2**70})]}, "seed"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_content_is_one_line_that_names_the_field(name: str) -> None:
    content, field = BAD[name]
    with pytest.raises(ScheduleError) as caught:
        Schedule.model_validate(content)
    assert field in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    with pytest.raises(ScheduleError):
        Schedule(**content)


def test_an_unknown_key_is_told_from_the_nearest_one() -> None:
    stages = [stage(criterion={**TEXT, "head": "max"})]
    with pytest.raises(ScheduleError) as caught:
        Schedule.model_validate({"stages": stages})
    assert (caught.value.field, caught.value.remedy) == ("stages[0].criterion.head", "did you mean 'heads'?")


def test_all_errors_come_at_once() -> None:
    with pytest.raises(ScheduleError) as caught:
        Schedule.model_validate({"version": 3, "colour": 1, "stages": [stage(ratio=7)]})
    assert all(field in str(caught.value) for field in ("version", "colour", "stages[0].keep.ratio"))


def test_of_a_great_many_errors_the_first_are_told_and_all_counted() -> None:
    with pytest.raises(ScheduleError, match=r"^5000 errors, the first 20: k0: unknown key") as caught:
        Schedule.model_validate({f"k{i}": i for i in range(5000)})
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    "content",
    [{"k" * 10**5: 1}, {"positions": "k" * 10**5}, {"stages": [[0] * 10**5]}, {"stages": [stage(count="9" * 10**5)]}],
    ids=["key", "text", "list", "digits"],
)
def test_long_values_are_shown_by_their_ends(content: dict) -> None:
    with pytest.raises(ScheduleError) as caught:
        Schedule.model_validate(content)
    assert len(str(caught.value)) < 500
    assert len(json.dumps(caught.value.to_dict())) < 1000


def test_an_error_is_json_whatever_its_value() -> None:
    for value in (float("inf"), 10**5000, {"a": [float("nan")]}):
        assert json.loads(json.dumps(AutopruneError("is wrong", value=value).to_dict(), allow_nan=False))


def test_a_key_that_stands_twice_among_many_is_found_at_once(tmp_path: Path) -> None:
    keys = ", ".join(f'"k{i}": 0' for i in [*range(200_000), 7])
    (tmp_path / "s.json").write_text(f"{{{keys}}}")
    with pytest.raises(ScheduleError, match="the key 'k7' stands twice"):
        Schedule.load(tmp_path / "s.json")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "is not JSON"),
        ('{"evidence": ' + "[" * 100_000 + "]" * 100_000 + "}", "is nested too deeply"),
        ("[]", "format"),
        ('{"format": "other", "version": 1}', "format"),
        ('{"format": "autoprune.schedule", "stages": []}', "version"),
        ('{"format": "autoprune.schedule", "version": true, "stages": []}', "version"),
        ('{"format": "autoprune.schedule", "version": 1, "stages": [], "evidence": {"drop": NaN}}', "evidence"),
        ('{"format": "autoprune.schedule", "version": 1, "stages": [], "evidence": {"drop": 1e999}}', "evidence"),
        ('{"format": "autoprune.schedule", "version": 1, "version": 1, "stages": []}', "stands twice"),
    ],
)
def test_bad_files(text: str, field: str, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(ScheduleError, match=field):
        Schedule.load(path)


def test_missing_file_and_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match="cannot be read"):
        Schedule.load(tmp_path / "none.json")
    with pytest.raises(ScheduleError, match="cannot be written"):
        presets.vtw(3).save(tmp_path / "no" / "folder.json")
    with pytest.raises(ScheduleError, match="evidence"):
        presets.vtw(3).model_copy(update={"evidence": {"x": float("nan")}}).save(tmp_path / "s.json")
    assert list(tmp_path.iterdir()) == []


def test_errors_have_the_parts_that_tools_print() -> None:
    with pytest.raises(AutopruneError) as caught:
        parse_criterion("txt")
    assert caught.value.to_dict() == {
        "field": "criterion",
        "value": "txt",
        "message": "no such criterion",
        "remedy": "use text",
    }


@pytest.mark.parametrize(
    ("ratio", "n", "alive", "kept"),
    [
        (0.5, 576, 576, 288),
        (0.125, 576, 288, 72),
        (0.5, 5, 5, 2),
        (0.5, 7, 7, 4),
        (0.001, 100, 100, 1),
        (0.0, 9, 9, 0),
        (0.9, 10, 4, 4),
        (1.0, 10, 10, 10),
    ],
)
def test_ratio_is_a_share_of_the_original_tokens_rounded_as_python_rounds(
    ratio: float, n: int, alive: int, kept: int
) -> None:
    assert Keep(ratio=ratio).target(n, alive) == kept


def test_key_is_equal_iff_the_pruning_is() -> None:
    base = Schedule(stages=[stage()])
    same = [
        Schedule(stages=[stage(criterion={**TEXT, "heads": "mean"})], evidence={"a": 1}),
        Schedule(stages=[stage(), stage(layer=9, ratio=0.5), {"layer": 4, "keep": {"ratio": 1.0}}][:1]),
        Schedule(stages=[{"layer": 1, "keep": {"ratio": 1.0}}, stage()]),
    ]
    other = [
        presets.fastv(2, 0.5),
        Schedule(stages=[stage()], positions="compact"),
        Schedule(stages=[stage(layer=3)]),
        Schedule(stages=[stage(count=5)]),
    ]
    assert {s.key for s in same} == {base.key}
    assert len({s.key for s in [base, *other]}) == 5
    assert Schedule(stages=[stage(ratio=-0.0)]).key == Schedule(stages=[stage(ratio=0.0)]).key


def test_a_layer_beyond_the_named_model_is_refused() -> None:
    model = json.loads(GOLDEN.read_text())["model"]
    with pytest.raises(ScheduleError, match="layers 0 to 31"):
        Schedule(model=model, stages=[stage(layer=32)])


class PerLayer(SimpleNamespace):
    """A text config whose layers have settings of their own; reading those from the whole is an error."""

    def __getattribute__(self, name: str) -> Any:
        if name in object.__getattribute__(self, "per_layer_attributes"):
            raise RuntimeError(f"{name} is ambiguous")
        return object.__getattribute__(self, name)


def test_identity_knows_the_settings_of_single_layers() -> None:
    def identity(*widths: int) -> ModelIdentity:
        text = PerLayer(
            per_layer_attributes={"head_dim"},
            per_layer_config=[SimpleNamespace(head_dim=width) for width in widths],
            num_hidden_layers=len(widths),
            hidden_size=64,
        )
        return ModelIdentity.from_config(SimpleNamespace(model_type="m", get_text_config=lambda decoder: text))

    assert identity(16, 32) == identity(16, 32)
    assert identity(16, 32).config_sha256 != identity(32, 16).config_sha256


def test_codebooks_are_found_beside_a_file(tmp_path: Path) -> None:
    book = {"name": "codebook", "path": "book.safetensors", "sha256": "0" * 64}
    stages = [
        {"layer": 0, "keep": {"ratio": 0.5}, "criterion": book},
        {"layer": 2, "keep": {"ratio": 0.0}},
    ]
    schedule = Schedule.model_validate({"format": "autoprune.schedule", "version": 1, "stages": stages})
    found = schedule.from_folder(tmp_path)
    assert found.stages[0].criterion.path == str(tmp_path / "book.safetensors")
    assert found.stages[1] == schedule.stages[1]
