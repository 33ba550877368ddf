"""Every command, as a user gives it, on tiny checkpoints of many families with their own processors.

The rows have one image and two, portrait and landscape, choices, answers, or neither.
"""

from __future__ import annotations

import json
import shlex

import pytest
import yaml
from support.checkpoints import CHECKPOINTS
from support.checkpoints.rows import save_rows
from support.versions import needs
from transformers.utils.import_utils import is_torchvision_available

from autoprune.cli.app import run

CORE = ("llava", "qwen2_5_vl", "internvl")
PIXELS = "torchvision" if is_torchvision_available() else "pil"
WITHOUT = {
    "mistral3": pytest.mark.skipif(not is_torchvision_available(), reason="PixtralProcessor needs torchvision"),
    "idefics3": needs("5.23", "no image processor of Idefics3's without torchvision"),
    "smolvlm": needs("5.23", "no image processor of SmolVLM's without torchvision"),
}


def families():
    for name in CHECKPOINTS:
        marks = [*([] if name in CORE else [pytest.mark.slow]), *([WITHOUT[name]] if name in WITHOUT else [])]
        yield pytest.param(name, marks=marks)


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Runs a command line in the folder of the test and returns its JSON object; any exit code but 0 fails the test."""
    monkeypatch.chdir(tmp_path)

    def call(line: str):
        code = run([*shlex.split(line), "--json"])
        out, err = capsys.readouterr()
        assert code == 0, f"{line}: exit {code}\n{out}\n{err}"
        return json.loads(out)

    return call


@pytest.mark.parametrize("name", list(families()))
def test_every_command(name, command, tmp_path):
    CHECKPOINTS[name].save(tmp_path / "model")
    for number, rows in enumerate(("calibration", "validation")):
        save_rows(tmp_path, rows, seed=number)
    study = {
        "name": name,
        "model": {"path": "model"},
        "data": {"calibration": {"path": "calibration.jsonl"}, "validation": {"path": "validation.jsonl"}},
        "baselines": ["fastv", "vtw"],
        "search": {"trials": 6, "within": 1.0},  # every point is measured on validation rows
        "workers": {"count": 0},
        "output": "run",
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))

    command("calibrate study.yaml")
    command("export run --max-drop 1 -o schedule.json")
    for data in ("", " --data calibration.jsonl"):
        checked = command(f"apply-check model schedule.json{data}")
        assert (checked["fired"], checked["undone"]) == (True, True)
        assert command(f"doctor model schedule.json{data}")["passed"]
    verified = command("verify model schedule.json --data validation.jsonl")
    front = json.loads((tmp_path / "run" / "front.json").read_text())
    exported = json.loads((tmp_path / "schedule.json").read_text())
    assert front["model"]["pixels"] == exported["evidence"]["pixels"] == PIXELS
    [point] = [point for point in front["points"] if point["schedule"]["stages"] == exported["stages"]]
    # What the study forced, `verify` generated.
    assert verified["accuracy_dense"] == front["dense"]["validation"]["accuracy"]
    assert verified["accuracy"] == point["validation"]["accuracy"]
    command("bench model schedule.json --visual-tokens 24 --new-tokens 2 --repeats 1 --warmup 0")
    command("sweep model --data calibration.jsonl -o vtw.json")
    command("flow model --data calibration.jsonl")
    command("codebook model --data calibration.jsonl -o codebook.safetensors --variant paper --probes 16")
    command("ablate model --data calibration.jsonl -o page.html --k1 1 --k2 3 --keep1 0.5 --keep2 0.25")
    command("fitprune model --data calibration.jsonl -o fitprune.json --budget 0.8")
