"""Schedules inside vLLM give what autoprune on transformers gives, whatever else the engine does meanwhile.

Needs vLLM; `.ci/run engines` makes an environment with it.
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from support import vllm_models
from support.vllm_runs import DEEP, ROOT, FailedRun, differences, run

from autoprune.runtime.codebook import write_prototypes

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM: .ci/run engines"),
    pytest.mark.slow,
    pytest.mark.timeout(900),  # several engines start, one after the other
]
DIGITS = ROOT / "studies" / "digit_scenes"
CLOSE = 1e-4
ENGINE = {"enforce_eager": True, "max_model_len": 512, "max_num_seqs": 16, "max_num_batched_tokens": 4096}
ONE_IMAGE = {"limit_mm_per_prompt": {"image": 1}}


def stage(layer: int, keep: dict, criterion: dict | None = None, **more: str) -> dict:
    return {"layer": layer, "keep": keep, **({"criterion": criterion} if criterion else {}), **more}


def attention(rows: str, **more: str) -> dict:
    return {"name": "attention", "rows": rows, **more}


def schedule(*stages: dict, **more: str) -> dict:
    return {"format": "autoprune.schedule", "version": 1, "stages": list(stages), **more}


SHORTER = {
    "uniform": schedule(stage(0, {"count": 48}, {"name": "uniform"}), positions="compact"),
    "random": schedule(stage(0, {"ratio": 0.3}, {"name": "random", "seed": 2}), positions="compact"),
    "diversity": schedule(stage(0, {"ratio": 0.33}, {"name": "diversity"}), positions="compact"),
}
DEEPER = {
    "withdrawal": schedule(stage(8, {"ratio": 0.0})),
    "last": schedule(stage(2, {"ratio": 0.5}, attention("last"))),
    "text, visual, all": schedule(
        stage(2, {"ratio": 0.5}, attention("text")),
        stage(5, {"count": 40}, attention("visual")),
        stage(9, {"ratio": 0.1}, attention("all", normalize="causal")),
        positions="compact",
    ),
    "found by a search": json.loads((DIGITS / "schedule.json").read_text()),
    "uniform, original positions": schedule(stage(0, {"count": 48}, {"name": "uniform"})),
}


def options_for(name: str) -> dict[str, Any]:
    return {**ENGINE, **(ONE_IMAGE if name in SHORTER else DEEP)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def answers(folder):
    """Runs on transformers, each made once."""

    @cache
    def made(asked: str) -> dict[str, Any]:
        return run(folder, {**json.loads(asked), "engine": "transformers"})

    return lambda job: made(json.dumps(job))


def job_of(what: dict | None, prompts: list[dict], **more: Any) -> dict[str, Any]:
    return {
        "model": str(DIGITS / "model"),
        "dtype": "float32",
        "schedule": what,
        "prompts": prompts,
        "max_tokens": 8,
    } | more


def prompts_of(count: int, images: int = 1) -> list[dict]:
    """Questions about scenes: each after one image, several, or none."""
    rows = [json.loads(line) for line in (DIGITS / "test.jsonl").read_text().splitlines()]
    made = []
    for i in range(count):
        shown = [str(DIGITS / rows[(i + 50 * k) % len(rows)]["image"]) for k in range(images)]
        made.append({"text": f"USER: {'<image> ' * images}{rows[i]['prompt']} ASSISTANT:", "images": shown})
    return made


def check(got: dict[str, Any], wanted: dict[str, Any], lengths: bool = True) -> None:
    wrong, largest = differences(got, wanted)
    assert wrong == 0
    assert largest < CLOSE
    if lengths:
        assert [a["lengths"] for a in got["answers"]] == [a["lengths"] for a in wanted["answers"]]


@pytest.mark.parametrize("name", [*SHORTER, *DEEPER])
def test_answers_are_those_of_transformers(folder, answers, name) -> None:
    job = job_of({**SHORTER, **DEEPER}[name], prompts_of(64))
    got = run(folder, {**job, "engine": "vllm", "options": options_for(name)})
    wanted = answers(job)
    check(got, wanted, lengths=name in DEEPER)
    if name in SHORTER:
        assert [a["n_prompt"] for a in got["answers"]] == [a["lengths"][0] for a in wanted["answers"]]
    else:
        assert any(0 < prefills < requests for prefills, requests in got["steps"])


@pytest.mark.parametrize("shorter", [True, False], ids=["shorter prompts", "between layers"])
def test_a_codebook(folder, answers, shorter) -> None:
    torch.manual_seed(0)
    made = write_prototypes(folder / "codebook.safetensors", torch.randn(32, 128), None).to_json_dict()
    before = stage(0, {"ratio": 0.3}, made)
    what = schedule(before, positions="compact") if shorter else schedule(before, stage(4, {"ratio": 0.0}))
    job = job_of(what, prompts_of(64))
    got = run(folder, {**job, "engine": "vllm", "options": {**ENGINE, **(ONE_IMAGE if shorter else DEEP)}})
    check(got, answers(job), lengths=not shorter)


@pytest.mark.parametrize("name", ["uniform", "random", "text, visual, all", "found by a search"])
def test_prompts_with_several_images_beside_text_alone(folder, answers, name) -> None:
    two, one, none = prompts_of(8, images=2), prompts_of(16)[8:], prompts_of(24, images=0)[16:]
    mixed = [prompt for three in zip(two, one, none, strict=True) for prompt in three]
    job = job_of({**SHORTER, **DEEPER}[name], mixed)
    options = {**options_for(name), "limit_mm_per_prompt": {"image": 2}}
    got = run(folder, {**job, "engine": "vllm", "options": options})
    wanted = answers(job)
    check(got, wanted, lengths=False)
    if name in DEEPER:
        assert [a["lengths"] for a in got["answers"] if a["lengths"]] == [
            a["lengths"] for a, prompt in zip(wanted["answers"], mixed, strict=True) if prompt["images"]
        ]


@pytest.mark.parametrize("name", ["text, visual, all", "found by a search"])
def test_requests_that_are_preempted_and_run_again(folder, answers, name) -> None:
    job = job_of(DEEPER[name], prompts_of(8), max_tokens=16, min_tokens=16)
    options = {**options_for(name), "num_gpu_blocks_override": 24, "block_size": 32}
    got = run(folder, {**job, "engine": "vllm", "options": options})
    assert got["counters"]["vllm:num_preemptions"] > 0
    check(got, answers(job))


def test_requests_that_are_aborted_leave_nothing(folder, answers) -> None:
    job = job_of(DEEPER["found by a search"], prompts_of(16), max_tokens=8)
    got = run(folder, {**job, "engine": "vllm", "abort_after": 3, "options": options_for("found by a search")})
    check(got, answers(job))
    running, later = got["remembered"]
    assert running > 1  # the requests had begun
    assert later <= 1  # of the one that runs


@pytest.mark.parametrize("name", ["uniform", "random", "found by a search"])
def test_an_image_that_is_known_beside_one_that_is_not(folder, answers, name) -> None:
    x, y, z = (prompt["images"][0] for prompt in prompts_of(3))
    text = prompts_of(1, images=2)[0]["text"]
    pairs = [(x, y), (x, z), (z, x), (y, x), (x, x)]
    job = job_of({**SHORTER, **DEEPER}[name], [{"text": text, "images": list(pair)} for pair in pairs])
    options = {**options_for(name), "limit_mm_per_prompt": {"image": 2}}
    got = run(folder, {**job, "engine": "vllm", "one_by_one": True, "options": options})
    assert got["counters"]["vllm:mm_cache_hits"] > 0
    check(got, answers(job), lengths=name in DEEPER)


@pytest.mark.parametrize("name", [*SHORTER])
def test_shorter_prompts_go_with_prefix_caching_and_chunked_prefill(folder, answers, name) -> None:
    job = job_of(SHORTER[name], prompts_of(16))
    chunks = {
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        "max_num_batched_tokens": 48,
        "block_size": 32,
    }
    options = {**options_for(name), **chunks}
    got = run(folder, {**job, "engine": "vllm", "rounds": 2, "options": options})
    assert got["counters"]["vllm:prefix_cache_hits"] > 0
    check(got, answers(job), lengths=False)


def test_deep_stages_with_the_options_that_vllm_has_by_itself(folder) -> None:
    job = job_of(DEEPER["last"], prompts_of(1))
    with pytest.raises(FailedRun) as caught:
        run(folder, {**job, "engine": "vllm", "options": {"max_model_len": 512}})
    assert "--enable-prefix-caching" in str(caught.value)
    assert "--enable-chunked-prefill" in str(caught.value)


def test_a_prompt_that_ends_with_an_image_is_refused_alone(folder) -> None:
    prompts = [{**prompts_of(1)[0], "text": "USER: what ASSISTANT: <image>"}]
    with pytest.raises(FailedRun, match="must end with text"):
        run(folder, {**job_of(DEEPER["last"], prompts), "engine": "vllm", "options": options_for("last")})


def test_log_probabilities_of_a_prompt(folder, answers) -> None:
    job = job_of(DEEPER["found by a search"], prompts_of(4), max_tokens=1, prompt_logprobs=3)
    got = run(folder, {**job, "engine": "vllm", "options": options_for("found by a search")})
    for made, wanted in zip(got["answers"], answers(job)["answers"], strict=True):
        for step, full in zip(made["prompt_logprobs"][1:], wanted["prompt_logprobs"], strict=False):
            assert all(abs(value - full[int(token)]) < CLOSE for token, value in step.items())


FAMILIES = {
    "withdrawal": schedule(stage(3, {"ratio": 0.0})),
    "last, text": schedule(stage(1, {"ratio": 0.6}, attention("last")), stage(3, {"ratio": 0.3}, attention("text"))),
    "raters, merged": schedule(
        stage(0, {"ratio": 0.7}, {"name": "diversity"}, merge="mean"),
        stage(2, {"ratio": 0.4}, attention("raters")),
        stage(4, {"count": 3}, attention("visual")),
    ),
}
COMPACT = {
    "diversity": schedule(stage(0, {"ratio": 0.5}, {"name": "diversity"}), positions="compact"),
    "compact": schedule(stage(2, {"ratio": 0.5}, attention("all")), positions="compact"),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    @cache
    def saved(family: str) -> str:
        return str(vllm_models.CHECKPOINTS[family].save(tmp_path_factory.mktemp(family)))

    return saved


@pytest.mark.parametrize(
    ("family", "name"),
    [*(("llava_next", name) for name in (*FAMILIES, *COMPACT)), *(("qwen2_5_vl", name) for name in FAMILIES)],
)
def test_other_families(folder, answers, checkpoint, family, name) -> None:
    prompts = vllm_models.prompts_of(family, folder, 64)
    what = {**FAMILIES, **COMPACT}[name]
    job = {**job_of(what, prompts), "model": checkpoint(family)}
    shorter = name == "diversity"
    # On this device vLLM normalizes pixels of Qwen otherwise than transformers, pruned or not.
    pixels = {"mm_device_do_normalize": False} if family == "qwen2_5_vl" else {}
    options = {**ENGINE, **pixels, **(ONE_IMAGE if shorter else DEEP)}
    got = run(folder, {**job, "engine": "vllm", "options": options})
    check(got, answers(job), lengths=not shorter)


def test_a_model_that_serves_no_schedules_is_refused_if_one_is_named(folder, checkpoint) -> None:
    job = {**job_of(FAMILIES["withdrawal"], []), "model": checkpoint("qwen2_vl")}
    with pytest.raises(FailedRun, match="a pruning schedule is named, but this model does not serve any"):
        run(folder, {**job, "engine": "vllm", "options": {**ENGINE, **DEEP}})


def test_half_precision_differs_from_transformers_no_more_than_its_own_kernels_do(folder, answers) -> None:
    """In bfloat16 scores that are nearly equal change places with the order of sums, and so do the tokens kept."""
    job = job_of(DEEPER["text, visual, all"], prompts_of(64), dtype="bfloat16")
    got = run(folder, {**job, "engine": "vllm", "options": options_for("text, visual, all")})
    wanted, other = answers(job), answers({**job, "attention": "eager"})
    assert differences(got, wanted)[0] <= 0.05 * len(wanted["answers"])

    def value(step: Any, token: str) -> float:
        return step[token] if isinstance(step, dict) else step[int(token)]

    def apart(one: dict[str, Any]) -> float:
        """How far the first token's likeliest candidates are from those of transformers."""
        rows = zip(*(run["answers"] for run in (got, one, wanted)), strict=True)
        steps = [[answer["logprobs"][0] for answer in row] for row in rows]
        found = [abs(value(a, token) - value(b, token)) for asked, a, b in steps for token in asked]
        return sum(found) / len(found)

    assert apart(got) <= 1.5 * apart(other)


@pytest.mark.parametrize(("name", "images"), [("uniform", 1), ("random", 2)])
def test_shorter_prompts_with_positions_of_three_axes(folder, answers, checkpoint, name, images) -> None:
    prompts = vllm_models.prompts_of("qwen2_5_vl", folder, 64, images)
    what = schedule(stage(0, {"ratio": 0.4}, {"name": name}))
    job = {**job_of(what, prompts), "model": checkpoint("qwen2_5_vl")}
    limits = {"limit_mm_per_prompt": {"image": images, "video": 0}, "mm_device_do_normalize": False}
    chunks = {
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        "max_num_batched_tokens": 32,
        "block_size": 32,
    }
    got = run(folder, {**job, "engine": "vllm", "options": {**ENGINE, **limits, **chunks}})
    wanted = answers(job)
    check(got, wanted, lengths=False)
    assert [a["n_prompt"] for a in got["answers"]] == [a["lengths"][0] for a in wanted["answers"]]
