"""Schedules inside vLLM give what autoprune on transformers gives, whatever else the engine does meanwhile.

Needs vLLM; `.ci/run engines` makes an environment with it. An engine takes long to start: tests that ask the same one
stand together, and pytest runs them so (`served`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from support import vllm_models
from support.vllm_runs import DEEP, DIGITS, NEW_TOKENS, digit_samples, transformers_side, vllm_side

from autoprune.data.rows import Sample
from autoprune.engines.vllm.comparison.agreement import CLOSE, disagreement
from autoprune.engines.vllm.comparison.asked import EngineAnswer, EnginePrompt, engine_prompts
from autoprune.engines.vllm.comparison.process import Ask
from autoprune.errors import AutopruneError, ModelError, PatchError
from autoprune.models.config import read_config
from autoprune.models.options import ModelOptions
from autoprune.models.processors import load_processor
from autoprune.runtime.codebook import write_prototypes
from autoprune.schedule import Schedule

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM: .ci/run engines"),
    pytest.mark.slow,
    pytest.mark.timeout(900),  # several engines start, one after the other
]
MODEL = str(DIGITS / "model")
ENGINE = {"enforce_eager": True, "max_model_len": 512, "max_num_seqs": 16, "max_num_batched_tokens": 4096}
ONE_IMAGE = {"limit_mm_per_prompt": {"image": 1}}
TWO_IMAGES = {"limit_mm_per_prompt": {"image": 2}}
CHUNKS = {
    "enable_prefix_caching": True,
    "enable_chunked_prefill": True,
    "max_num_batched_tokens": 48,
    "block_size": 32,
}


def stage(layer: int, keep: dict, criterion: dict | None = None, **more: str) -> dict:
    return {"layer": layer, "keep": keep, **({"criterion": criterion} if criterion else {}), **more}


def attention(rows: str, **more: str) -> dict:
    return {"name": "attention", "rows": rows, **more}


def schedule(*stages: dict, **more: str) -> Schedule:
    return Schedule.model_validate({"stages": list(stages), **more})


SHORTER = {
    "uniform": schedule(stage(0, {"count": 48}, {"name": "uniform"}), positions="compact"),
    "random": schedule(stage(0, {"ratio": 0.3}, {"name": "random", "seed": 2}), positions="compact"),
    "diversity": schedule(stage(0, {"ratio": 0.33}, {"name": "diversity"}), positions="compact"),
}
DEEPER = {
    "last, withdrawal": schedule(stage(2, {"ratio": 0.5}, attention("last")), stage(8, {"ratio": 0.0})),
    "text, visual, all": schedule(
        stage(2, {"ratio": 0.5}, attention("text")),
        stage(5, {"count": 40}, attention("visual")),
        stage(9, {"ratio": 0.1}, attention("all", normalize="causal")),
        positions="compact",
    ),
    "found by a search": Schedule.load(DIGITS / "schedule.json"),
    "uniform, original positions": schedule(stage(0, {"count": 48}, {"name": "uniform"})),
}
SCHEDULES = {**SHORTER, **DEEPER}


@dataclass(frozen=True)
class Served:
    """A schedule in an engine that runs."""

    name: str
    schedule: Schedule
    ask: Ask

    def answers(self, prompts: Sequence[EnginePrompt]) -> list[EngineAnswer]:
        answers: list[EngineAnswer] = self.ask("answers", prompts, NEW_TOKENS)
        return answers

    def count(self, name: str) -> float:
        """What the engine has counted so far."""
        return self.ask("counters").get(f"vllm:{name}", 0)


def options_for(name: str) -> dict[str, Any]:
    if name in DEEPER:
        return {**ENGINE, **DEEP, **TWO_IMAGES}
    return {**ENGINE, **CHUNKS, **(ONE_IMAGE if name == "diversity" else TWO_IMAGES)}


@pytest.fixture(scope="module")
def served(request) -> Any:
    """The engine of a schedule, for all tests that ask for it."""
    name = request.param
    with vllm_side(MODEL, SCHEDULES[name], options_for(name)) as ask:
        yield Served(name, SCHEDULES[name], ask)


def in_engines_of(*names: str) -> Any:
    return pytest.mark.parametrize("served", names, indirect=True)


class Reference:
    """autoprune on transformers: one model at a time, and answers that are made once."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._open: tuple[Any, Ask] | None = None
        self._known: dict[Any, EngineAnswer] = {}

    def side(self, *given: str) -> Ask:
        if self._open is None or self._open[0] != given:
            self.close()
            self._open = given, self._stack.enter_context(transformers_side(*given))
        return self._open[1]

    def close(self) -> None:
        self._stack.close()
        self._open = None

    def answers(self, what: Schedule, samples: Sequence[Sample], model: str = MODEL, *kind: str) -> list[EngineAnswer]:
        keys = [(model, kind, what.key, sample.id, sample.images) for sample in samples]
        new = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in self._known}
        made = self.side(model, *kind)("answers", what, list(new.values()), NEW_TOKENS) if new else []
        self._known |= dict(zip(new, made, strict=True))
        return [self._known[key] for key in keys]


@pytest.fixture(scope="module")
def reference() -> Any:
    made = Reference()
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Callable[[str], str]:
    @cache
    def saved(family: str) -> str:
        return str(vllm_models.CHECKPOINTS[family].save(tmp_path_factory.mktemp(family)))

    return saved


@cache
def processor_of(model: str) -> Any:
    return load_processor(model, read_config(model), ModelOptions())


def prompts_of(samples: Sequence[Sample], model: str = MODEL) -> list[EnginePrompt]:
    return engine_prompts(processor_of(model), samples)


def check(got: Sequence[EngineAnswer], wanted: Sequence[EngineAnswer]) -> None:
    apart = disagreement(wanted, got)
    assert apart.rows == 0
    assert apart.largest < CLOSE
    assert [answer.lengths for answer in got] == [answer.lengths for answer in wanted]


@in_engines_of(*SCHEDULES)
def test_answers_are_those_of_transformers(served, reference) -> None:
    samples = digit_samples(64)
    check(served.answers(prompts_of(samples)), reference.answers(served.schedule, samples))
    if served.name in DEEPER:  # prompts beside answers
        assert any(0 < prefills < requests for prefills, requests in served.ask("steps"))


@in_engines_of("uniform", "random", "text, visual, all", "found by a search")
def test_prompts_with_several_images_beside_text_alone(served, reference) -> None:
    two, one, none = digit_samples(8, images=2), digit_samples(16)[8:], digit_samples(24, images=0)[16:]
    mixed = [sample for three in zip(two, one, none, strict=True) for sample in three]
    check(served.answers(prompts_of(mixed)), reference.answers(served.schedule, mixed))


@in_engines_of("uniform", "random", "found by a search")
def test_an_image_that_is_known_beside_one_that_is_not(served, reference) -> None:
    x, y, z = (sample.images[0] for sample in digit_samples(3))
    first = digit_samples(1)[0]
    pairs = [replace(first, images=pair) for pair in ((x, y), (x, z), (z, x), (y, x), (x, x))]
    before = served.count("mm_cache_hits")
    got = [answer for prompt in prompts_of(pairs) for answer in served.answers([prompt])]
    assert served.count("mm_cache_hits") > before
    check(got, reference.answers(served.schedule, pairs))


@in_engines_of(*SHORTER)
def test_shorter_prompts_that_are_asked_again_are_in_the_cache(served, reference) -> None:
    samples = digit_samples(16)
    for _ in range(2):
        before = served.count("prefix_cache_hits")
        got = served.answers(prompts_of(samples))
    assert served.count("prefix_cache_hits") > before
    check(got, reference.answers(served.schedule, samples))


@in_engines_of("found by a search")
def test_requests_that_are_aborted_leave_nothing(served, reference) -> None:
    samples = digit_samples(16)
    running, later = served.ask("aborted", prompts_of(samples), 3)
    assert running > 1  # the requests had begun
    assert later <= 1  # of the one that runs
    check(served.answers(prompts_of(samples)), reference.answers(served.schedule, samples))


@in_engines_of("found by a search")
def test_log_probabilities_of_a_prompt(served, reference) -> None:
    samples = digit_samples(4)
    got = served.ask("of_prompts", prompts_of(samples), 3)
    for steps, full in zip(got, reference.side(MODEL)("of_prompts", served.schedule, samples), strict=True):
        for step, all_of_them in zip(steps, full, strict=False):  # behind the last token the answer begins
            assert all(abs(value - all_of_them[token]) < CLOSE for token, value in step.items())


@in_engines_of("last, withdrawal")
def test_a_prompt_that_ends_with_an_image_is_refused_alone(served, reference) -> None:
    (sample,), (good,) = digit_samples(1), prompts_of(digit_samples(1))
    ids = processor_of(MODEL).tokenizer("USER: what ASSISTANT: <image>")["input_ids"]
    with pytest.raises(AutopruneError, match="must end with text"):
        served.answers([replace(good, ids=tuple(ids))])
    check(served.answers([good]), reference.answers(served.schedule, [sample]))


@pytest.mark.parametrize("shorter", [True, False], ids=["shorter prompts", "between layers"])
def test_a_codebook_and_features_that_are_not_finite(folder, reference, shorter) -> None:
    torch.manual_seed(0)
    made = write_prototypes(folder / "codebook.safetensors", torch.randn(32, 128), None).to_json_dict()
    before = stage(0, {"ratio": 0.3}, made)
    what = schedule(before, positions="compact") if shorter else schedule(before, stage(4, {"ratio": 0.0}))
    samples = digit_samples(64)
    with vllm_side(MODEL, what, {**ENGINE, **(ONE_IMAGE if shorter else DEEP)}) as ask:
        check(ask("answers", prompts_of(samples), NEW_TOKENS), reference.answers(what, samples))
        ask("broken")
        with pytest.raises(PatchError, match="images 0 of 1 .* not finite" if shorter else "requests .* not finite"):
            ask("answers", prompts_of(digit_samples(66)[65:]), NEW_TOKENS)


@pytest.mark.parametrize("name", ["text, visual, all", "found by a search"])
def test_requests_that_are_preempted_and_run_again(reference, name) -> None:
    samples, what = digit_samples(8), DEEPER[name]
    with vllm_side(MODEL, what, {**options_for(name), "num_gpu_blocks_override": 24, "block_size": 32}) as ask:
        got = ask("long_answers", prompts_of(samples), 16)
        assert ask("counters")["vllm:num_preemptions"] > 0
    check(got, reference.side(MODEL)("long_answers", what, samples, 16))


def test_deep_stages_with_the_options_that_vllm_has_by_itself() -> None:
    with (
        pytest.raises(PatchError) as caught,
        vllm_side(MODEL, DEEPER["last, withdrawal"], {"max_model_len": 512}),
    ):
        pass
    assert "--enable-prefix-caching" in str(caught.value)
    assert "--enable-chunked-prefill" in str(caught.value)


FAMILIES = {
    "last, text, withdrawal": schedule(
        stage(1, {"ratio": 0.6}, attention("last")),
        stage(3, {"ratio": 0.3}, attention("text")),
        stage(5, {"ratio": 0.0}),
    ),
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
PIXELS: Mapping[str, Mapping[str, Any]] = {"qwen2_5_vl": {"mm_device_do_normalize": False}}
"""On a CPU vLLM normalizes pixels of Qwen otherwise than transformers, pruned or not."""


@pytest.mark.parametrize(
    ("family", "name"),
    [*(("llava_next", name) for name in (*FAMILIES, *COMPACT)), *(("qwen2_5_vl", name) for name in FAMILIES)],
)
def test_other_families(folder, reference, checkpoint, family, name) -> None:
    samples, model = vllm_models.samples_of(family, folder, 64), checkpoint(family)
    what = {**FAMILIES, **COMPACT}[name]
    options = {**ENGINE, **PIXELS.get(family, {}), **(ONE_IMAGE if name == "diversity" else DEEP)}
    with vllm_side(model, what, options) as ask:
        check(ask("answers", prompts_of(samples, model), NEW_TOKENS), reference.answers(what, samples, model))


@pytest.mark.parametrize(("name", "images"), [("uniform", 1), ("random", 2)])
def test_shorter_prompts_with_positions_of_three_axes(folder, reference, checkpoint, name, images) -> None:
    family = "qwen2_5_vl"
    samples, model = vllm_models.samples_of(family, folder, 64, images), checkpoint(family)
    what = schedule(stage(0, {"ratio": 0.4}, {"name": name}))
    limits = {"limit_mm_per_prompt": {"image": images, "video": 0}, "max_num_batched_tokens": 32}
    with vllm_side(model, what, {**ENGINE, **PIXELS[family], **CHUNKS, **limits}) as ask:
        check(ask("answers", prompts_of(samples, model), NEW_TOKENS), reference.answers(what, samples, model))


def test_a_model_that_serves_no_schedules_is_refused_if_one_is_named(checkpoint) -> None:
    with (
        pytest.raises(ModelError, match="a pruning schedule is named, but this model does not serve any"),
        vllm_side(checkpoint("qwen2_vl"), FAMILIES["raters, merged"], {**ENGINE, **DEEP}),
    ):
        pass


def test_half_precision_differs_from_transformers_no_more_than_its_own_kernels_do(reference) -> None:
    """In bfloat16 scores that are nearly equal change places with the order of sums, and so do the tokens kept."""
    what, samples = DEEPER["text, visual, all"], digit_samples(64)
    with vllm_side(MODEL, what, options_for("text, visual, all"), "bfloat16") as ask:
        got = ask("answers", prompts_of(samples), NEW_TOKENS)
    wanted, other = (reference.answers(what, samples, MODEL, "bfloat16", kernel) for kernel in ("sdpa", "eager"))
    assert disagreement(wanted, got).rows <= 0.05 * len(samples)

    def apart(found: Sequence[EngineAnswer]) -> float:
        """How far the first token's likeliest candidates are from those of transformers."""
        steps = [(a.logprobs[0], b.logprobs[0], c.logprobs[0]) for a, b, c in zip(got, found, wanted, strict=True)]
        gaps = [abs(f[token] - w[token]) for asked, f, w in steps for token in asked if token in f and token in w]
        return sum(gaps) / len(gaps)

    assert apart(got) <= 1.5 * apart(other)
