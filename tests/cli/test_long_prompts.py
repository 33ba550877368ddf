"""Every command that shows rows to a model refuses a prompt that is too long for it, before anything runs."""

from __future__ import annotations

import json

import pytest
import yaml
from transformers import LlavaForConditionalGeneration


@pytest.fixture
def too_long(rows, tmp_path):
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    for row in found:
        row["images"] = [str(rows.parent / name) for name in row["images"]]
    found[0]["prompt"] += " w1" * 100_000
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


COMMANDS = {
    "verify": "verify {model} {schedule} --data {data}",
    "apply-check": "apply-check {model} {schedule} --data {data}",
    "doctor": "doctor {model} --data {data}",
    "sweep": "sweep {model} --data {data}",
    "flow": "flow {model} --data {data}",
    "codebook": "codebook {model} --data {data} -o {folder}/book.safetensors",
    "ablate": "ablate {model} --data {data} -o {folder}/page.html",
    "fitprune": "fitprune {model} --data {data} -o {folder}/fit.json",
    "transfer": "transfer {schedule} {model} --data {data} -o {folder}/moved.json",
    "calibrate": "calibrate {study}",
    "calibrate --dry-run": "calibrate {study} --dry-run",
    "calibrate, validation rows": "calibrate {held_out}",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_refused_with_row_tokens_and_maximum(name, cli, tiny, rows, too_long, schedule_file, tmp_path, monkeypatch):
    for file, calibration, validation in (("study", too_long, rows), ("held_out", rows, too_long)):
        data = {"calibration": {"path": str(calibration)}, "validation": {"path": str(validation)}}
        study = {"name": file, "model": {"path": str(tiny)}, "data": data, "workers": {"count": 0}, "output": file}
        (tmp_path / f"{file}.yaml").write_text(yaml.safe_dump(study))
    monkeypatch.setattr(LlavaForConditionalGeneration, "forward", lambda *args, **kwargs: pytest.fail("it ran"))
    line = COMMANDS[name].format(
        model=tiny, schedule=schedule_file, data=too_long, folder=tmp_path, study=tmp_path / "study.yaml",
        held_out=tmp_path / "held_out.yaml",
    )  # fmt: skip
    found = cli(*line.split(), "--json")
    assert found.code == 2, found.err
    error = json.loads(found.err.splitlines()[-1] if found.err else found.out)["error"]
    assert error["field"] == "prompt"
    assert "prompt of row 0 has 100" in error["message"]
    assert "takes 256 (max_position_embeddings)" in error["message"]
    assert error["remedy"]
