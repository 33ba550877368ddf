"""vLLM, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from autoprune.engines.vllm.comparison.asked import EngineAnswer, EnginePrompt
from autoprune.engines.vllm.comparison.settings import EngineSettings
from autoprune.engines.vllm.report import lengths_by_request
from autoprune.models.environment import hardware

COMPARED = 5
"""Log-probabilities of a token that are compared: those of the likeliest."""


@dataclass(frozen=True)
class EngineRound:
    """Times of one batch of requests that arrive together.

    Attributes:
        seconds: From their arrival to the end of the last one.
        first_token_s: Of each request, from its arrival to its first token.
        output_tokens: Tokens of all answers.
    """

    seconds: float
    first_token_s: tuple[float, ...]
    output_tokens: int


class VllmSide:
    """A model in vLLM.

    Args:
        settings: How it is started.
    """

    def __init__(self, settings: EngineSettings) -> None:
        from vllm import LLM

        self._llm = LLM(**settings.arguments)
        self._depth = self._llm.model_config.get_total_num_hidden_layers()
        self._batches = 0

    def place(self) -> dict[str, Any]:
        """The machine, as far as vLLM uses it."""
        from vllm.platforms import current_platform

        device = torch.device("cuda", 0) if current_platform.is_cuda_alike() else None
        return {**hardware(device), "threads": torch.get_num_threads()}

    def answers(self, prompts: Sequence[EnginePrompt], new_tokens: int) -> list[EngineAnswer]:
        """Greedy answers of prompts that arrive together."""
        from vllm import SamplingParams

        return self._greedy(prompts, SamplingParams(temperature=0, max_tokens=new_tokens, logprobs=COMPARED))

    def _greedy(self, prompts: Sequence[EnginePrompt], wanted: Any) -> list[EngineAnswer]:
        made = self._llm.generate([prompt.request() for prompt in prompts], wanted, use_tqdm=False)
        pruned = lengths_by_request(self._llm)
        return [self._answer(output, pruned.get(output.request_id)) for output in made]

    def _answer(self, output: Any, lengths: tuple[int, ...] | None) -> EngineAnswer:
        answer = output.outputs[0]
        return EngineAnswer(
            ids=tuple(answer.token_ids),
            logprobs=tuple({token: found.logprob for token, found in step.items()} for step in answer.logprobs),
            lengths=lengths or (len(output.prompt_token_ids),) * self._depth,
        )

    def timed(self, prompts: Sequence[EnginePrompt], new_tokens: int) -> EngineRound:
        """Times of prompts that arrive together and are answered with so many tokens each."""
        from vllm import SamplingParams

        wanted = SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True)
        requests = [prompt.request() for prompt in prompts]  # images are decoded before the clock starts
        self._batches += 1
        first: dict[str, float] = {}
        tokens: dict[str, int] = {}
        engine = self._llm.llm_engine
        started = time.perf_counter()
        for i, request in enumerate(requests):
            engine.add_request(f"{self._batches}-{i}", request, wanted)
        while engine.has_unfinished_requests():
            for output in engine.step():
                made = len(output.outputs[0].token_ids)
                if made:
                    first.setdefault(output.request_id, time.perf_counter() - started)
                    tokens[output.request_id] = made
        return EngineRound(time.perf_counter() - started, tuple(first.values()), sum(tokens.values()))
