"""Every command, as a user gives it, on tiny checkpoints of many families with their own processors."""

from __future__ import annotations

import json

import pytest
import yaml
from support.checkpoints import CHECKPOINTS
from support.checkpoints.rows import save_rows
from transformers.utils.import_utils import is_torchvision_available

from autoprune.cli.app import run

CORE = ("llava", "qwen2_5_vl", "internvl")
TORCHVISION = {
    "mistral3": pytest.mark.skipif(not is_torchvision_available(), reason="PixtralProcessor needs torchvision"),
}


def families():
    for name in CHECKPOINTS:
        marks = [*([] if name in CORE else [pytest.mark.slow]), *([TORCHVISION[name]] if name in TORCHVISION else [])]
        yield pytest.param(name, marks=marks)


@pytest.fixture
def command(capsys):
    """Runs a command line and returns its JSON object; fails on any exit code but those named."""

    def call(*argv: object, code: int = 0):
        exit_code = run([*map(str, argv), "--json"])
        out, err = capsys.readouterr()
        assert exit_code == code, f"{argv[0]}: exit {exit_code}\n{out}\n{err}"
        return json.loads(out)

    return call


@pytest.mark.parametrize("name", list(families()))
def test_every_command(name, command, tmp_path):
    model = CHECKPOINTS[name].save(tmp_path / "model")
    rows, held_out = save_rows(tmp_path, "calibration", seed=0), save_rows(tmp_path, "held-out", seed=1)
    study = {
        "name": name,
        "model": {"path": str(model)},
        "data": {"calibration": {"path": str(rows)}, "validation": {"path": str(held_out)}},
        "baselines": ["fastv", "vtw"],
        "search": {"trials": 6},
        "workers": {"count": 0},
        "output": str(tmp_path / "run"),
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    schedule = tmp_path / "schedule.json"

    front = command("calibrate", tmp_path / "study.yaml")
    assert front
    command("export", tmp_path / "run", "--max-drop", "1", "-o", schedule)
    checked = command("apply-check", model, schedule, "--data", rows)
    assert checked["fired"]
    assert command("apply-check", model, schedule)["undone"]
    verified = command("verify", model, schedule, "--data", held_out)
    measured = json.loads((tmp_path / "run" / "front.json").read_text())
    assert verified["accuracy_dense"] == measured["dense"]["validation"]["accuracy"]  # forced, and generated
    assert command("doctor", model)["passed"]
    assert command("doctor", model, schedule, "--data", rows)["passed"]
    command("bench", model, schedule, "--visual-tokens", 24, "--new-tokens", 2, "--repeats", 1, "--warmup", 0)
    command("sweep", model, "--data", rows, "-o", tmp_path / "vtw.json")
    command("flow", model, "--data", rows)
    command(
        "codebook", model, "--data", rows, "-o", tmp_path / "codebook.safetensors", "--variant", "paper", "--probes", 16
    )
    command(
        "ablate",
        model,
        "--data",
        rows,
        "-o",
        tmp_path / "ablation.html",
        "--k1",
        1,
        "--k2",
        3,
        "--keep1",
        0.5,
        "--keep2",
        0.25,
    )
    command("fitprune", model, "--data", rows, "-o", tmp_path / "fitprune.json", "--budget", 0.8)
