"""``doctor`` and ``bench`` with ``--engine vllm``, as a user runs them.

Needs vLLM; `.ci/run engines` makes an environment with it.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
from support.vllm_runs import DIGITS, environment

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM: .ci/run engines"),
    pytest.mark.slow,
    pytest.mark.timeout(900),  # three models start, one after the other
]
MODEL = DIGITS / "model"
SCHEDULE = DIGITS / "schedule.json"
SHORTER = {"layer": 0, "keep": {"ratio": 0.3}, "criterion": {"name": "diversity"}}


def command(*given: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "autoprune", *map(str, given), "--json"]
    return subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=840)


@pytest.fixture
def shorter(tmp_path):
    file = tmp_path / "shorter.json"
    file.write_text(
        json.dumps({"format": "autoprune.schedule", "version": 1, "stages": [SHORTER], "positions": "compact"})
    )
    return file


@pytest.mark.parametrize("serving", ["layers", "prompts"])
def test_doctor_passes_on_made_up_rows(shorter, serving) -> None:
    done = command("doctor", MODEL, SCHEDULE if serving == "layers" else shorter, "--engine", "vllm")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)  # one object, whatever the engines print
    assert {result["status"] for result in found["results"]} == {"pass"}
    assert (found["serving"], len(found["rows"])) == (serving, 4)
    assert found["pruned"]["largest"] < 1e-4
    assert found["tokens"][-1] < found["tokens"][0] if serving == "layers" else len(set(found["tokens"])) == 1


def test_an_option_that_vllm_refuses_is_one_line(shorter) -> None:
    done = command("doctor", MODEL, shorter, "--engine", "vllm", "--engine-option", "max_model_len=16")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["field"] == "vLLM, dense"


def test_an_option_with_which_a_schedule_would_not_be_exact_is_refused_by_its_name() -> None:
    done = command("doctor", MODEL, SCHEDULE, "--engine", "vllm", "--engine-option", "enable_prefix_caching=true")
    assert done.returncode == 1
    assert "--enable-prefix-caching" in json.loads(done.stdout)["error"]["message"]


def test_bench_times_dense_beside_pruned() -> None:
    few = ("--repeats", 3, "--new-tokens", 4, "--batch-size", 2)
    done = command("bench", MODEL, SCHEDULE, "--engine", "vllm", "--random-init", *few)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    (setting,) = found["settings"]
    for arm in (setting["dense"], setting["pruned"]):
        assert arm["first_token_ms"]["median"] > 0
        assert arm["output_tokens_per_s"]["median"] == pytest.approx(4 * arm["requests_per_s"]["median"])
    assert setting["requests_ratio"]["median"] > 0
    assert found["tokens"][-1] < found["prompt_tokens"]
    assert found["not_measured"]["GPU"] == "none was used"
