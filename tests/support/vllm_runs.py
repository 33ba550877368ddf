"""The two engines of a comparison, and what tests ask of them beyond it; each runs in a process of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from autoprune.data.images import ImageSource
from autoprune.data.rows import Sample
from autoprune.engines.vllm.comparison.asked import EngineAnswer, EnginePrompt
from autoprune.engines.vllm.comparison.process import Ask, engine_process
from autoprune.engines.vllm.comparison.settings import ENVIRONMENT, EngineSettings
from autoprune.engines.vllm.comparison.transformers_side import TransformersSide
from autoprune.engines.vllm.comparison.vllm_side import COMPARED, VllmSide
from autoprune.engines.vllm.serving import Serving, asked_options
from autoprune.evaluate.encoding import model_inputs
from autoprune.models.options import ModelOptions
from autoprune.runtime import apply
from autoprune.schedule import Schedule

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "studies" / "digit_scenes"
DEEP = asked_options(Serving.LAYERS)
NEW_TOKENS = 8
_SMALL = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


def environment() -> dict[str, str]:
    """Environment of a command that runs vLLM on one core."""
    own = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    return {**os.environ, **own, **_SMALL}


class WatchedTransformers(TransformersSide):
    """autoprune on transformers.

    Args:
        model: Folder.
        dtype: Number type.
        attention: Attention kernels.
    """

    def __init__(self, model: str, dtype: str, attention: str) -> None:
        super().__init__(model, ModelOptions(dtype=dtype))  # type: ignore[arg-type]  # one of them
        self._loaded.model.set_attn_implementation(attention)

    def long_answers(self, schedule: Schedule, samples: Sequence[Sample], tokens: int) -> list[EngineAnswer]:
        """Answers that go on for so many tokens."""
        config: Any = self._loaded.model.generation_config
        config.min_new_tokens = tokens
        try:
            return self.answers(schedule, samples, tokens)
        finally:
            config.min_new_tokens = None

    def of_prompts(self, schedule: Schedule, samples: Sequence[Sample]) -> list[list[list[float]]]:
        """Log-probabilities of all tokens, behind each token of a prompt."""
        with apply(self._loaded.model, schedule), torch.inference_mode():
            logits = [self._loaded.model(**model_inputs(self._loaded, [sample])).logits[0] for sample in samples]
        return [torch.log_softmax(rows.float(), -1).tolist() for rows in logits]


class WatchedVllm(VllmSide):
    """vLLM, whose steps are noted."""

    def __init__(self, settings: EngineSettings) -> None:
        from autoprune.engines.vllm import layers

        self._steps: list[tuple[int, int]] = []
        plain = layers.PrunedLayers.run

        def noted(pruned: Any, step: Any, *given: Any) -> Any:
            self._steps.append((sum(r.is_prefill for r in step.requests), len(step.requests)))
            return plain(pruned, step, *given)

        layers.PrunedLayers.run = noted  # type: ignore[method-assign]  # in this process alone
        super().__init__(settings)

    def steps(self) -> list[tuple[int, int]]:
        """Of each step the prompts that it pruned, and its requests."""
        return self._steps

    def counters(self) -> dict[str, float]:
        """What the engine counts."""
        return {metric.name: metric.value for metric in self._llm.get_metrics() if hasattr(metric, "value")}

    def long_answers(self, prompts: Sequence[EnginePrompt], tokens: int) -> list[EngineAnswer]:
        """Answers that go on for so many tokens."""
        from vllm import SamplingParams

        wanted = SamplingParams(temperature=0, max_tokens=tokens, min_tokens=tokens, logprobs=COMPARED)
        return self._greedy(prompts, wanted)

    def of_prompts(self, prompts: Sequence[EnginePrompt], some: int) -> list[list[dict[int, float]]]:
        """Log-probabilities of the likeliest tokens, behind each token of a prompt."""
        from vllm import SamplingParams

        wanted = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=some)
        made = self._llm.generate([prompt.request() for prompt in prompts], wanted, use_tqdm=False)
        return [
            [{token: found.logprob for token, found in step.items()} for step in output.prompt_logprobs[1:]]
            for output in made
        ]

    def aborted(self, prompts: Sequence[EnginePrompt], after: int) -> list[int]:
        """Begin all prompts, and abort them after some steps; requests that the model remembers then, and later."""
        from vllm import SamplingParams

        wanted = SamplingParams(temperature=0, max_tokens=NEW_TOKENS)
        names = [f"aborted-{i}" for i in range(len(prompts))]
        for name, prompt in zip(names, prompts, strict=True):
            self._llm.llm_engine.add_request(name, prompt.request(), wanted)
        for _ in range(after):
            self._llm.llm_engine.step()
        running = self._llm.apply_model(_remembered)
        self._llm.llm_engine.abort_request(names)
        self.answers(prompts[:1], NEW_TOKENS)
        return [*running, *self._llm.apply_model(_remembered)]

    def broken(self) -> bool:
        """Make all features that the projector gives infinite."""
        self._llm.apply_model(_break_projector)
        return True


def _remembered(model: Any) -> int:
    """Requests whose dropped tokens are counted."""
    return len(model.pruned_layers._dropped)


def _break_projector(model: Any) -> None:
    for weight in model.multi_modal_projector.parameters():
        weight.data.fill_(float("inf"))


@contextmanager
def transformers_side(model: str, dtype: str = "float32", attention: str = "sdpa") -> Iterator[Ask]:
    """A `WatchedTransformers`."""
    with engine_process("transformers", WatchedTransformers, model, dtype, attention, environment={}) as ask:
        yield ask


@contextmanager
def vllm_side(model: str, schedule: Schedule, options: Mapping[str, Any], dtype: str = "float32") -> Iterator[Ask]:
    """A `WatchedVllm`."""
    asked = {"model": model, "dtype": dtype, "seed": 0, "disable_log_stats": False, **options}
    with engine_process(
        "vLLM", WatchedVllm, EngineSettings(asked, schedule), environment={**ENVIRONMENT, **_SMALL}
    ) as ask:
        yield ask


def sample_of(name: str, question: str, images: Sequence[Path]) -> Sample:
    """A question about images."""
    return Sample(name, question, tuple(ImageSource(path=file) for file in images), (), None, None, None, name)


def digit_samples(count: int, images: int = 1) -> list[Sample]:
    """Questions about scenes: each after one image, several, or none."""
    rows = [json.loads(line) for line in (DIGITS / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    files = [DIGITS / row["image"] for row in rows]
    return [
        sample_of(str(i), rows[i]["prompt"], [files[(i + 50 * k) % len(files)] for k in range(images)])
        for i in range(count)
    ]
