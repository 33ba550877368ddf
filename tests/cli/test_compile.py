from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from autoprune.engines.export import prefill
from autoprune.schedule import Schedule


def test_a_model_is_compiled_and_checked(cli, tiny, rows, schedule_file, tmp_path):
    shown = cli("compile", tiny, schedule_file, "-o", tmp_path / "out")
    assert shown.code == 0, shown.err
    assert "the same" in shown.out
    assert "OTHER" not in shown.out
    facts = json.loads((tmp_path / "out" / "compiled.json").read_text())
    assert facts["check"]["passed"]
    assert facts["visual_tokens_of_layers"] == [16, 8, 8, 4, 4, 4]

    again = cli("compile", tiny, schedule_file, "-o", tmp_path / "out")
    assert again.code == 2
    assert "--force" in again.err


def test_graphs_that_differ_are_not_written(cli, tiny, rows, schedule_file, tmp_path, monkeypatch):
    def first(step, alive, read):
        every = torch.arange(step.before)[None]
        return every[:, : step.after], every[:, step.after :]

    monkeypatch.setattr(prefill, "ranked", first)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "compiled.json").write_text("a good one")
    found = cli("compile", tiny, schedule_file, "-o", tmp_path / "out", "--force", "--json")
    assert found.code == 1
    assert "does not do what autoprune does" in found.json["error"]["message"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["compiled.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "schedule.json"]


def test_the_images_of_a_row_are_compiled_for(cli, tiny, rows, schedule_file, tmp_path):
    two = rows.parent / "two.jsonl"  # the third row shows two images
    two.write_text(rows.read_text().splitlines()[2] + "\n")
    found = cli("compile", tiny, schedule_file, "-o", tmp_path / "out", "--data", two, "--json")
    assert found.code == 0, found.err
    assert found.json["visual_tokens"] == 32
    assert found.json["pixel_values"][0] == 2
    assert found.json["schedule_key"] == Schedule.load(schedule_file).key
    assert found.json["output"] == str(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--dtype", "bfloat16"), "--dtype"),
        (("--device", "cuda"), "--device"),
        (("--device-map", "auto"), "--device-map"),
    ],
)
def test_only_single_precision_on_the_cpu(cli, tiny, schedule_file, tmp_path, options, field):
    refused = cli("compile", tiny, schedule_file, "-o", tmp_path / "out", *options, "--json")
    assert (refused.code, refused.json["error"]["field"]) == (2, field)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_compiled_is_refused_before_the_model_is_read(cli, tmp_path):
    stages = [{"layer": 1, "keep": {"mass": 0.5}, "criterion": {"name": "attention", "rows": "text"}}]
    Schedule.model_validate({"stages": stages}).save(tmp_path / "mass.json")
    refused = cli("compile", tmp_path / "no-model", tmp_path / "mass.json", "-o", tmp_path / "out", "--json")
    assert (refused.code, refused.json["error"]["field"]) == (2, "stages[0].keep.mass")


@pytest.mark.parametrize("package", ["onnx_ir", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named_with_what_to_install(schedule_file, tmp_path, package):
    code = (
        f"import sys; sys.modules[{package!r}] = None; from autoprune.cli.app import run; sys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "compile", "no-model", schedule_file, "-o", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"needs the package {package}" in done.stderr
    assert "[onnx]" in done.stderr
