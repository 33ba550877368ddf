"""Configs of models: code that a checkpoint brings never runs unasked."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import sys

import pytest
from support.scenes import save_rows

from autoprune.cli.app import run
from autoprune.errors import ModelError
from autoprune.models.config import read_config
from autoprune.models.options import ModelOptions

CODE = """
from pathlib import Path
Path(__file__).with_name("ran").write_text("")
from transformers import CLIPConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
class Config(LlavaConfig):
    model_type = "brings_code"
class Processor(LlavaProcessor):
    pass
"""
BRINGS = {
    "config": ("config.json", {"model_type": "brings_code", "auto_map": {"AutoConfig": "code.Config"}}),
    "model": (
        "config.json",
        {
            "model_type": "clip",
            "auto_map": dict.fromkeys(["AutoModelForImageTextToText", "AutoModelForCausalLM"], "code.M"),
        },
    ),
    "processor": (
        "processor_config.json",
        {"processor_class": "Processor", "auto_map": {"AutoProcessor": "code.Processor"}},
    ),
}


@pytest.fixture
def bringing(model_folder, tmp_path):
    """A checkpoint that needs code of its own for one of its parts."""

    def make(part):
        folder = tmp_path / part
        shutil.copytree(model_folder, folder)
        (folder / "code.py").write_text(CODE)
        name, changed = BRINGS[part]
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changed))
        return folder

    return make


def on_a_terminal(argv, cwd):
    """Exit code and output of a process whose input is a terminal, at which somebody answers ``y``."""
    child, terminal = pty.fork()
    if not child:
        os.chdir(cwd)
        os.execv(sys.executable, [sys.executable, "-m", "autoprune", *map(str, argv)])
    shown = b""
    while select.select([terminal], [], [], 120)[0]:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        shown += part
        if b"?" in part:
            os.write(terminal, b"y\n")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode()


def test_a_terminal_is_never_asked_whether_code_may_run(bringing, tmp_path):
    folder = bringing("config")
    rows = save_rows(tmp_path, 12)
    code, shown = on_a_terminal(["sweep", folder, "--data", rows], tmp_path)
    assert code == 2
    assert "[y/N]" not in shown
    assert "--trust-remote-code" in shown
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("config", "doctor {0}"),
        ("config", "calibrate {2}"),
        ("model", "doctor {0} --random-init"),
        ("model", "bench {0} --random-init"),
        ("processor", "doctor {0} --random-init"),
        ("processor", "sweep {0} --data {1}"),
        ("processor", "calibrate {2}"),
    ],
)
def test_every_command_names_the_option(bringing, tmp_path, capfd, monkeypatch, part, words):
    asked = []
    monkeypatch.setattr("builtins.input", lambda *text: asked.append(text) or "n")
    folder, rows = bringing(part), save_rows(tmp_path, 12)
    study = {"name": "n", "model": {"path": str(folder)}, "data": {"calibration": {"path": str(rows)}}}
    (tmp_path / "study.yaml").write_text(json.dumps(study | {"workers": {"count": 0}, "output": "run"}))
    code = run(words.format(folder, rows, tmp_path / "study.yaml").split())
    said = capfd.readouterr().err
    assert code == 2, said
    assert "--trust-remote-code" in said
    assert not asked
    assert not list(tmp_path.rglob("ran"))


def test_code_that_transformers_has_itself_is_not_asked_for(model_folder, tmp_path):
    folder = tmp_path / "known"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "code.Config"}}))
    assert read_config(folder).model_type == "llava"


def test_code_runs_when_the_user_says_so(bringing):
    assert read_config(bringing("config"), options=ModelOptions(trust_remote_code=True)).model_type == "brings_code"


@pytest.mark.parametrize("change", [{"num_hidden_layers": -1}, {"hidden_size": "wide"}])
def test_a_config_that_makes_no_sense_is_one_line(model_folder, tmp_path, change):
    shutil.copytree(model_folder, tmp_path / "odd")
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    config["text_config"] |= change
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"config\.json"):
        read_config(tmp_path / "odd")
