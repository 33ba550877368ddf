"""The same prompts through autoprune on transformers and through vLLM; each run is a process of its own.

    python -m support.vllm_runs JOB.json OUT.json

A job names the model, its schedule (or null), the prompts and the engine ("transformers" or "vllm") with its options.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from autoprune.engines.vllm.serving import Serving, asked_options

ROOT = Path(__file__).parents[2]
DEEP = asked_options(Serving.LAYERS)
_TIMEOUT_S = 600


class FailedRun(RuntimeError):
    """A run that ended with an error; its text is what the process wrote."""


def run(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """What a job gives: of each prompt the ids of its answer, and their log-probabilities.

    Raises:
        FailedRun: with what was written.
    """
    number = len(list(folder.glob("job-*.json")))
    asked, made = folder / f"job-{number}.json", folder / f"out-{number}.json"
    asked.write_text(json.dumps(job))
    done = subprocess.run(
        [sys.executable, "-m", "support.vllm_runs", asked, made],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )
    if done.returncode:
        raise FailedRun(done.stdout + done.stderr)
    result: dict[str, Any] = json.loads(made.read_text())
    return result


def environment(**more: str) -> dict[str, str]:
    """Environment of a process that runs vLLM on one core."""
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        **more,
    }


def on_transformers(job: dict[str, Any]) -> dict[str, Any]:
    """Answers of `autoprune.apply`."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    import autoprune

    model = AutoModelForImageTextToText.from_pretrained(
        job["model"], dtype=getattr(torch, job["dtype"]), attn_implementation=job.get("attention", "sdpa")
    ).eval()
    processor = AutoProcessor.from_pretrained(job["model"])
    schedule = autoprune.Schedule.model_validate(
        job["schedule"] or {"format": "autoprune.schedule", "version": 1, "stages": []}
    )
    answers = []
    with autoprune.apply(model, schedule) as patch, torch.no_grad():
        for prompt in job["prompts"]:
            given = {"images": _images(prompt)} if prompt["images"] else {}
            inputs = processor(text=prompt["text"], return_tensors="pt", **given)
            out = model.generate(
                **inputs, max_new_tokens=job["max_tokens"], do_sample=False, output_logits=True,
                min_new_tokens=job.get("min_tokens"), return_dict_in_generate=True,
            )  # fmt: skip
            ids = out.sequences[0, inputs["input_ids"].shape[1] :].tolist()
            scores = [torch.log_softmax(step[0].float(), -1).tolist() for step in out.logits]
            lengths = patch.report.tokens[:, 0].tolist() if job["schedule"] else []
            made = {"ids": ids, "logprobs": scores, "lengths": lengths}
            if job.get("prompt_logprobs"):
                made["prompt_logprobs"] = torch.log_softmax(model(**inputs).logits[0].float(), -1).tolist()
            answers.append(made)
    return {"answers": answers}


def on_vllm(job: dict[str, Any]) -> dict[str, Any]:
    """Answers of vLLM, with what its steps were like."""
    from vllm import LLM, SamplingParams

    from autoprune.engines.vllm import layers
    from autoprune.engines.vllm.report import lengths_by_request

    steps = []
    plain = layers.PrunedLayers.run

    def noted(self: Any, step: Any, *args: Any) -> Any:
        steps.append([sum(r.is_prefill for r in step.requests), len(step.requests)])
        return plain(self, step, *args)

    layers.PrunedLayers.run = noted
    overrides = {"hf_overrides": {"autoprune_schedule": job["schedule"]}} if job["schedule"] else {}
    llm = LLM(job["model"], dtype=job["dtype"], seed=0, disable_log_stats=False, **{**overrides, **job["options"]})
    prompts = [
        {"prompt": p["text"], **({"multi_modal_data": {"image": _images(p)}} if p["images"] else {})}
        for p in job["prompts"]
    ]
    wanted = SamplingParams(
        temperature=0, max_tokens=job["max_tokens"], min_tokens=job.get("min_tokens", 0), logprobs=5,
        prompt_logprobs=job.get("prompt_logprobs"),
    )  # fmt: skip
    remembered = []
    if job.get("abort_after"):
        remembered = _abort(llm, prompts, wanted, job["abort_after"])
    together = [[prompt] for prompt in prompts] if job.get("one_by_one") else [prompts]
    rounds = [
        [made for some in together for made in llm.generate(some, wanted, use_tqdm=False)]
        for _ in range(job.get("rounds", 1))
    ]
    lengths = lengths_by_request(llm)
    counters = {
        metric.name: metric.value
        for metric in llm.get_metrics()
        if metric.name in ("vllm:num_preemptions", "vllm:prefix_cache_hits", "vllm:mm_cache_hits")
    }
    answers = [
        {
            "ids": list(made.outputs[0].token_ids),
            "logprobs": [{str(k): v.logprob for k, v in step.items()} for step in made.outputs[0].logprobs],
            "n_prompt": len(made.prompt_token_ids),
            "prompt_logprobs": [
                None if step is None else {str(k): v.logprob for k, v in step.items()}
                for step in made.prompt_logprobs or []
            ],
            "lengths": list(lengths.get(made.request_id, ())),
        }
        for made in rounds[-1]
    ]
    return {"answers": answers, "steps": steps, "counters": counters, "remembered": remembered}


def _abort(llm: Any, prompts: list[Any], wanted: Any, after: int) -> list[int]:
    """Begin all prompts, and abort them after some steps; requests that the model remembers then, and after another."""
    names = [f"aborted-{i}" for i in range(len(prompts))]
    for name, prompt in zip(names, prompts, strict=True):
        llm.llm_engine.add_request(name, prompt, wanted)
    for _ in range(after):
        llm.llm_engine.step()
    running = llm.apply_model(_remembered)
    llm.llm_engine.abort_request(names)
    llm.generate(prompts[:1], wanted, use_tqdm=False)
    return [*running, *llm.apply_model(_remembered)]


def _remembered(model: Any) -> int:
    """Requests whose dropped tokens are counted."""
    return len(model.pruned_layers._dropped)


def differences(engine: dict[str, Any], reference: dict[str, Any]) -> tuple[int, float]:
    """Answers that differ, and the largest difference of log-probabilities in those that do not."""
    wrong, largest = 0, 0.0
    for got, wanted in zip(engine["answers"], reference["answers"], strict=True):
        if got["ids"] != wanted["ids"]:
            wrong += 1
            continue
        for step, full in zip(got["logprobs"], wanted["logprobs"], strict=True):
            largest = max([largest, *(abs(value - full[int(token)]) for token, value in step.items())])
    return wrong, largest


def _images(prompt: dict[str, Any]) -> list[Any]:
    from PIL import Image

    return [Image.open(path).convert("RGB") for path in prompt["images"]]


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    made = {"vllm": on_vllm, "transformers": on_transformers}[asked["engine"]](asked)
    Path(sys.argv[2]).write_text(json.dumps(made))
