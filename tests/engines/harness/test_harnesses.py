"""The model in lmms-eval and lm-eval, on rows of digit_scenes, where they are installed: ``.ci/run full:harnesses``."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from autoprune.data.samples import load_samples
from autoprune.errors import EvaluationError
from autoprune.evaluate.generate import generate_and_score
from autoprune.models.loading import load_model
from autoprune.presets import vtw
from autoprune.schedule import Schedule

ROOT = Path(__file__).parents[3]
DIGITS = ROOT / "studies" / "digit_scenes"
ROWS = 16


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} wants an environment of its own: .ci/run full:harnesses")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A folder with the rows, and a task for either harness."""
    folder = tmp_path_factory.mktemp("task")
    rows = [json.loads(line) for line in (DIGITS / "test.jsonl").read_text().splitlines()[:ROWS]]
    rows = [{**row, "image": str(DIGITS / row["image"])} for row in rows]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "functions.py").write_text((Path(__file__).parent / "task.py").read_text())
    return folder


@pytest.fixture(scope="module")
def pruned(task):
    """A schedule whose answers are others than the dense model's: all visual tokens leave before layer 1."""
    vtw(1).save(task / "schedule.json")
    return task / "schedule.json"


@pytest.fixture(scope="module")
def wanted(task, pruned):
    """Answers under the schedule, as autoprune gives them, and of the dense model; by the question's row."""
    loaded, rows = load_model(DIGITS / "model"), load_samples(task / "rows.jsonl")
    arms = {"pruned": Schedule.load(pruned), "dense": Schedule()}
    found = {
        arm: [result.text.strip() for result in generate_and_score(loaded, rows, schedule)]
        for arm, schedule in arms.items()
    }
    assert found["pruned"] != found["dense"]
    return found


def ran(command, folder):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder, capture_output=True, text=True, timeout=280,
        env={**os.environ, "HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


LMMS_TASK = """
task: digits
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function functions.to_visual
doc_to_text: !function functions.to_text
doc_to_messages: !function functions.to_messages
doc_to_target: "answers"
process_results: !function functions.process
generation_kwargs: {{max_new_tokens: 32, temperature: 0, do_sample: false}}
metric_list: [{{metric: right, aggregation: mean, higher_is_better: true}}]
"""


@needs("lmms_eval")
@pytest.mark.parametrize("arm", ["pruned", "dense"])
def test_the_answers_of_lmms_eval_are_those_of_autoprune(task, pruned, wanted, arm):
    (task / "digits.yaml").write_text(LMMS_TASK.format(rows=task / "rows.jsonl"))
    schedule = str(pruned) if arm == "pruned" else "dense"
    out = task / arm
    model = f"pretrained={DIGITS / 'model'},schedule={schedule}"
    where = ["--tasks", "digits", "--include_path", str(task), "--output_path", str(out), "--log_samples"]
    ran(["-m", "lmms_eval", "--model", "autoprune", "--model_args", model, "--batch_size", "4", *where], task)
    (samples,) = out.rglob("*samples*.jsonl")
    rows = sorted((json.loads(line) for line in samples.read_text().splitlines()), key=lambda row: row["doc_id"])
    assert [row["filtered_resps"].strip() for row in rows] == wanted[arm]


@needs("lmms_eval")
def test_a_task_that_samples_is_refused_before_anything_is_answered(monkeypatch):
    from autoprune.engines.harness.lmms_model import PrunedLmms

    model = PrunedLmms(str(DIGITS / "model"), "dense")
    monkeypatch.setattr(model, "_answered", lambda asked: pytest.fail("a request was answered"))
    requests = [SimpleNamespace(args=("", None, {"do_sample": sampled})) for sampled in (False, True)]
    with pytest.raises(EvaluationError, match="do_sample"):
        model.generate_until(requests)


LM_TASK = """
task: digits
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_image: !function functions.to_visual
doc_to_text: "<image>{{{{prompt}}}}"
doc_to_target: "{{{{answers[0]}}}}"
process_results: !function functions.process
generation_kwargs: {{max_gen_toks: 32, until: ["###"], do_sample: false}}
metric_list: [{{metric: right, aggregation: mean, higher_is_better: true}}]
"""


@needs("lm_eval")
def test_the_answers_of_the_snippet_for_lm_eval_are_those_of_autoprune(task, pruned, wanted):
    folder = task / "lm"
    folder.mkdir()
    (folder / "digits.yaml").write_text(LM_TASK.format(rows=task / "rows.jsonl"))
    (folder / "functions.py").write_text((task / "functions.py").read_text())
    manual = (ROOT / "autoprune" / "engines" / "harness" / "README.md").read_text()
    (code,) = [block.split("```")[0] for block in manual.split("```python\n")[1:]]
    for shown, ours in (
        ('"llava-hf/llava-1.5-7b-hf"', repr(str(DIGITS / "model"))),
        ('"schedule.json"', repr(str(pruned))),
        ("batch_size=4", "batch_size=4, device='cpu', dtype='float32'"),
        ('tasks=["mmmu_val"]', f"tasks=['digits'], task_manager=TaskManager(include_path={str(folder)!r})"),
    ):
        assert shown in code
        code = code.replace(shown, ours)
    shown = "json.dumps([row['resps'][0][0].strip() for row in results['samples']['digits']])"
    code = f"import json\nfrom lm_eval.tasks import TaskManager\n{code}\nprint('answers', {shown})"
    said = ran(["-c", code], task)
    assert json.loads(said.rsplit("answers", 1)[1]) == wanted["pruned"]
