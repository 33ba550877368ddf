"""The contract of ``front.json``: what was written once loads for ever, and comes back as it was."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from support.fronts import make_front, save_front
from support.schemas import command

import autoprune
from autoprune.errors import StudyError
from autoprune.report.export import select_point
from autoprune.report.page import render_page
from autoprune.search.front import FrontFile, front_schema
from autoprune.search.outputs import write_outputs

GOLDEN = Path(__file__).parents[1] / "golden_front"
SCHEMA = json.loads((Path(autoprune.__file__).parent / "search/front.schema.json").read_text(encoding="utf-8"))


def golden(folder: Path, name: str) -> dict:
    shutil.copy(GOLDEN / name, folder / "front.json")
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def test_version_1_comes_back_as_it_was(tmp_path):
    written = golden(tmp_path, "front-v1.json")
    assert list(written)[:2] == ["format", "version"]
    assert json.loads(FrontFile.load(tmp_path).model_dump_json()) == written


def test_a_front_from_before_the_format_was_stamped_loads_as_version_1(tmp_path):
    written = golden(tmp_path, "front-unversioned.json")
    assert "format" not in written
    again = json.loads(FrontFile.load(tmp_path).model_dump_json())
    assert again == {"format": "autoprune.front", "version": 1, **written}


def test_the_made_up_front_is_one(tmp_path):
    save_front(tmp_path)
    assert len(FrontFile.load(tmp_path).points) == len(make_front()["points"])


def test_shipped_json_schema_is_current_and_accepts_what_is_written():
    assert front_schema() == SCHEMA, command(
        "autoprune.search.front", "front_schema", "autoprune/search/front.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for name in ("front-v1.json", "front-unversioned.json"):
        jsonschema.validate(json.loads((GOLDEN / name).read_text(encoding="utf-8")), SCHEMA)
    jsonschema.validate(make_front(), SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**make_front(), "version": 2}, SCHEMA)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "is a front of version 2, only version 1 is known"),
        ({"version": "1"}, "is a front of version '1'"),
        ({"format": "autoprune.schedule"}, "its key 'format' must be 'autoprune.front'"),
        ({"extra": 1}, "is no front: extra"),
        ({"points": None}, "is no front: points"),
    ],
)
def test_what_is_no_front_is_one_clear_error(tmp_path, changes, said):
    save_front(tmp_path, {**make_front(), **changes})
    with pytest.raises(StudyError) as caught:
        FrontFile.load(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense"])
def test_a_broken_file_is_one_clear_error(tmp_path, text):
    (tmp_path / "front.json").write_text(text)
    with pytest.raises(StudyError, match="run: is no"):
        FrontFile.load(tmp_path)
    (tmp_path / "front.json").unlink()
    with pytest.raises(StudyError, match="cannot be read"):
        FrontFile.load(tmp_path)


def test_a_schedule_that_cannot_be_read_names_the_remedy(tmp_path):
    front = make_front()
    front["points"][0]["schedule"]["stages"] = [
        {"layer": 1, "keep": {"ratio": 0.5}, "criterion": {"name": "nobody/knows", "requires": "nobody>=1"}}
    ]
    save_front(tmp_path, front)
    with pytest.raises(StudyError) as caught:
        FrontFile.load(tmp_path)
    assert "points[0].schedule: stages[0].criterion: no installed package brings this criterion" in str(caught.value)
    assert "Value error" not in str(caught.value)
    assert caught.value.remedy.startswith("pip install 'nobody>=1'")


def test_a_trial_off_the_front_may_need_a_package_that_is_not_installed(tmp_path):
    front = make_front()
    shown = {point["trial"] for point in (*front["points"], *front["baselines"])}
    trial = next(t for t in front["study"]["trials"] if t["trial"] not in shown)
    trial["schedule"]["stages"] = [
        {"layer": 1, "keep": {"ratio": 0.5}, "criterion": {"name": "nobody/knows", "requires": "nobody>=1"}}
    ]
    save_front(tmp_path, front)
    loaded = FrontFile.load(tmp_path)
    assert render_page(loaded)
    assert select_point(loaded, max_drop=1.0)
    assert json.loads(loaded.model_dump_json())["study"]["trials"] == front["study"]["trials"]


def test_times_without_those_of_the_dense_model_are_shown(tmp_path):
    front = make_front()
    for point in front["points"]:
        if point["latency"]:
            point["latency"] = {"prefill_ms": point["latency"]["prefill_ms"]}
    save_front(tmp_path, front)
    page = render_page(FrontFile.load(tmp_path))
    assert "batch of None" not in page
    assert "(dense –)" in page


def test_no_cell_of_the_sheet_is_a_formula(tmp_path):
    golden(tmp_path, "front-v1.json")
    front = FrontFile.load(tmp_path)
    named = front.points[0].model_copy(update={"name": "=cmd()"})

    class Study:
        @staticmethod
        def to_yaml() -> str:
            return ""

    write_outputs(front.model_copy(update={"points": (named, *front.points[1:])}), tmp_path, Study())
    with (tmp_path / "front.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert "'=cmd()" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "@"))]


def test_the_sheet_has_a_line_for_every_point_and_the_figures_of_the_table(tmp_path):
    golden(tmp_path, "front-v1.json")
    front = FrontFile.load(tmp_path)

    class Study:
        @staticmethod
        def to_yaml() -> str:
            return ""

    write_outputs(front, tmp_path, Study())
    lines = (tmp_path / "front.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(
        "kind,trial,name,of,stages,flops_ratio,flops_ratio_end_to_end,kv_ratio,accuracy,agreement,kl,kl_p90,samples,"
        "drop,drop_se,accuracy_low,accuracy_high,validation_flops_ratio,"
    )
    assert ",measured_on,left_out,flops_p10,flops_p90," in lines[0]
    assert lines[0].endswith("prefill_ms,prefill_dense_ms,end_to_end_ms,end_to_end_dense_ms")
    assert len(lines) == 2 + len(front.points) + len(front.baselines) + len(front.controls)
