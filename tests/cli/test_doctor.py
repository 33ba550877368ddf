from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from support.zoo.mllama import mllama

from autoprune.presets import vtw
from autoprune.schedule import Schedule

ROOT = Path(__file__).parents[2]


def test_the_model_of_this_repository_is_all_green(cli):
    found = cli("doctor", ROOT / "studies/digit_scenes/model", "--json")
    assert found.code == 0, found.out
    assert found.json["passed"]
    results = found.json["results"]
    assert {r["status"] for r in results} == {"pass", "not applicable"}
    assert {r["reason"] for r in results if r["status"] != "pass"} == {"no stage chooses by an attention map"}
    assert len({r["schedule"] for r in results}) == 4
    assert found.json["kernels"] == ["eager", "sdpa"]
    assert 0 < found.json["noise"]["kernel"] < found.json["tolerance"] < 1e-3


def test_a_schedule_of_ones_own_on_rows_of_ones_own(cli, tiny, rows, schedule_file):
    shown = cli("doctor", tiny, schedule_file, "--data", rows)
    assert shown.code == 0, shown.err
    assert "Pruning is exact here: 10 passed, 0 failed, 0 not applicable." in shown.out
    assert "rows 0 and 1" in shown.out
    assert "float32, cpu, sdpa attention" in shown.out


def test_random_weights_through_the_processor_that_is_there(cli, tiny):
    found = cli("doctor", tiny, "--random-init", "--json").json
    assert found["passed"]
    assert "made-up images" in found["inputs"]


def test_random_weights_from_a_config_alone(cli, tiny, tmp_path):
    (tmp_path / "config.json").write_text((tiny / "config.json").read_text())
    shown = cli("doctor", tmp_path / "config.json", "--random-init")
    assert shown.code == 0, shown.out
    assert "vision tower not exercised" in shown.out


def test_a_failure_is_exit_code_1_and_says_where(cli, tiny, schedule_file, monkeypatch):
    monkeypatch.setattr("autoprune.runtime.cache_layers.PrunedLayer.get_seq_length", lambda self: self.keys.shape[-2])
    shown = cli("doctor", tiny, schedule_file)
    assert shown.code == 1
    assert "PRUNING IS NOT EXACT HERE" in shown.out
    line = next(line for line in shown.out.splitlines() if "KV lengths" in line)
    assert "fail" in line
    assert "layer 1 after the prefill: reports length" in line


def test_a_schedule_that_changes_nothing_shows_nothing(cli, tiny, tmp_path):
    Schedule.model_validate({"stages": [{"layer": 1, "keep": {"ratio": 1.0}}]}).save(tmp_path / "noop.json")
    shown = cli("doctor", tiny, tmp_path / "noop.json")
    assert shown.code == 1
    assert "NOTHING IS SHOWN" in shown.out


@pytest.mark.parametrize("options", [(), ("--random-init",)])
def test_a_schedule_for_another_model_is_bad_input(cli, tiny, tmp_path, options):
    vtw(30).save(tmp_path / "deep.json")
    found = cli("doctor", tiny, tmp_path / "deep.json", "--json", *options)
    assert found.code == 2
    assert found.json["error"]["field"] == "stages[0].layer"


def test_an_unsupported_structure_is_one_line_and_exit_code_2(cli, tmp_path):
    mllama().model.config.save_pretrained(tmp_path)
    refused = cli("doctor", tmp_path, "--random-init")
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "cross-attention" in refused.err
    assert refused.out == ""


def test_data_for_a_bare_config_is_bad_input(cli, tiny, rows, tmp_path):
    (tmp_path / "config.json").write_text((tiny / "config.json").read_text())
    found = cli("doctor", tmp_path, "--random-init", "--data", rows, "--json")
    assert found.code == 2
    assert json.loads(found.out)["error"]["field"] == "--data"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--engine-option", "seed=1"), "--engine-option"),
        (("--engine", "vllm", "--random-init"), "--random-init"),
        (("--engine", "vllm"), "SCHEDULE"),
        (("--engine", "tgi"), "--engine"),
    ],
)
def test_options_that_are_not_of_the_engine(cli, tiny, options, field):
    found = cli("doctor", tiny, *options, "--json")
    assert (found.code, found.json["error"]["field"]) == (2, field)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is here")
def test_without_vllm_one_line_says_what_to_install(cli, tiny, schedule_file):
    refused = cli("doctor", tiny, schedule_file, "--engine", "vllm")
    assert refused.code == 2
    assert refused.err.count("error: ") == 1
    assert "pip install 'vllm==0.32.*'" in refused.err


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("pass", 0, "vLLM does here what autoprune does"),
        ("fail", 1, "VLLM DOES NOT DO WHAT AUTOPRUNE DOES"),
        ("not applicable", 1, "NOTHING IS SHOWN"),
    ],
)
def test_a_comparison_with_vllm_as_a_table_and_an_exit_code(cli, tiny, schedule_file, monkeypatch, status, code, words):
    from autoprune.doctor import CheckResult
    from autoprune.engines.vllm.comparison import examine
    from autoprune.engines.vllm.comparison.agreement import Disagreement

    result = CheckResult("tokens per layer", "vLLM", status, "row 3 in vLLM", 0.0)
    apart = Disagreement(1, 0.5, 0.25)
    report = examine.EngineReport(
        "0.32.0", "layers", ["a", "b"], "cpu", "float32", apart, apart, [9, 4], {"transformers": 2.0}, [result]
    )
    monkeypatch.setattr(examine, "engine_case", lambda *given: given)
    monkeypatch.setattr(examine, "examine_engine", lambda case, say: report)
    shown = cli("doctor", tiny, schedule_file, "--engine", "vllm")
    assert shown.code == code
    for text in (words, "row 3 in vLLM", "other tokens in 1 of 2 rows", "in vLLM 0.32.0: float32", "[9, 4]"):
        assert text in shown.out
    found = cli("doctor", tiny, schedule_file, "--engine", "vllm", "--json")
    assert (found.code, found.json["passed"], found.json["engine"]) == (code, status == "pass", "vllm")
