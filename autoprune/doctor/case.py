"""The runs that checks compare: each is made once, when the first check asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from autoprune.doctor.kernels import available_kernels, current_kernel, kernel
from autoprune.doctor.prompts import Prompt, Prompts
from autoprune.doctor.reference import MaskedReference
from autoprune.doctor.runs import Run, greedy_answer, run
from autoprune.doctor.tolerance import allowed, distance, rounding
from autoprune.runtime import apply
from autoprune.runtime.decoder import decoder_layers, find_decoder
from autoprune.runtime.report import Report
from autoprune.schedule import Schedule


class Subject:
    """The model under test, what it is asked, and its dense runs.

    Args:
        model: The model, unpatched.
        prompts: What it is asked.
        reserved: Token ids that no answer may hold.
    """

    def __init__(self, model: Any, prompts: Prompts, reserved: list[int]) -> None:
        self.model, self.prompts = model, prompts
        self.depth = len(decoder_layers(find_decoder(model)))
        self.kernel, self.kernels = current_kernel(model), available_kernels(model)
        self._reserved = reserved

    @property
    def other_kernel(self) -> str | None:
        """The other attention implementation, if the model runs it here."""
        return next((name for name in self.kernels if name != self.kernel), None)

    @property
    def reference_kernel(self) -> str:
        """What the reference runs with: eager, which shows its attention maps, if the model accepts it."""
        return "eager" if "eager" in self.kernels else self.kernel

    @cached_property
    def answer(self) -> list[int]:
        """The tokens that every run is made to generate: the dense model's answer to the first row."""
        return greedy_answer(self.model, self.prompts.rows[0], self._reserved)

    def run(self, prompt: Prompt, *, use_cache: bool = True) -> Run:
        """The model as it is now, patched or not, on a row or on the batch."""
        rows = self.prompts.rows if prompt is self.prompts.batch else (prompt,)
        return run(self.model, prompt, [row.columns for row in rows], self.answer, use_cache=use_cache)

    @cached_property
    def dense(self) -> Run:
        """The first row."""
        return self.run(self.prompts.rows[0])

    @cached_property
    def dense_batch(self) -> Run:
        """The padded batch."""
        return self.run(self.prompts.batch)

    @cached_property
    def dense_uncached(self) -> Run:
        """The first row without a cache."""
        return self.run(self.prompts.rows[0], use_cache=False)

    @cached_property
    def repeatable(self) -> bool:
        """Whether the unpatched model gives the same bits twice."""
        again = self.run(self.prompts.rows[0])
        return torch.equal(self.dense.logits[0], again.logits[0]) and torch.equal(self.dense.steps, again.steps)

    @cached_property
    def kernel_noise(self) -> float:
        """How far apart the unpatched model is with another kernel; if it has none, in a padded batch."""
        floor = rounding(self.model.dtype, self.depth)
        if self.other_kernel is None:
            return max(floor, self.padding_noise)
        with kernel(self.model, self.other_kernel):
            other = self.run(self.prompts.rows[0])
        return max(floor, _apart(other, self.dense))

    @cached_property
    def padding_noise(self) -> float:
        """How far apart the unpatched model is on a padded batch and on each of its rows alone."""
        noise = 0.0
        for b, prompt in enumerate(self.prompts.rows):
            alone = self.run(prompt) if b else self.dense
            steps = distance(self.dense_batch.steps[:, b], alone.steps[:, 0])
            noise = max(noise, steps, distance(self.dense_batch.logits[b], alone.logits[0]))
        return noise

    @cached_property
    def cache_noise(self) -> float:
        """How far apart the unpatched model is with a cache and without."""
        return distance(self.dense_uncached.steps, self.dense.steps)

    def tolerance(self, *noises: float) -> float:
        """How far apart two exact runs may be, where these sources of noise come on top of the kernel's."""
        return allowed(self.kernel_noise, *noises)


@dataclass(frozen=True)
class Pruned:
    """A run under a patch, what the patch says about it, and how long each row of the prompt is."""

    run: Run
    report: Report
    lengths: tuple[int, ...]

    def kept(self, row: int = 0) -> dict[int, Tensor]:
        """For each stage's layer, the positions of a row's prompt that are left."""
        length = self.lengths[row]
        return {layer: left[row][left[row] < length] for layer, left in self.report.kept.items()}


@dataclass(frozen=True)
class Reference:
    """A run of the independent reference; `scores` and `alive` as in `MaskedReference`."""

    run: Run
    scores: dict[int, Tensor]
    alive: list[Tensor]


class Case:
    """A subject under one schedule.

    Args:
        subject: The subject.
        schedule: The schedule.
    """

    def __init__(self, subject: Subject, schedule: Schedule) -> None:
        self.subject, self.schedule = subject, schedule
        self._alone: dict[int, Pruned] = {}
        self._references: dict[Any, Reference] = {}

    def pruned_on(self, prompt: Prompt, name: str | None = None, *, use_cache: bool = True) -> Pruned:
        """A run under the schedule, with another kernel if one is named."""
        model = self.subject.model
        with kernel(model, name) if name else nullcontext(), apply(model, self.schedule, prompt.mask) as patch:
            result = self.subject.run(prompt, use_cache=use_cache)
            return Pruned(result, patch.report, tuple(prompt.inputs["attention_mask"].sum(1).tolist()))

    def alone(self, row: int) -> Pruned:
        """A row without padding."""
        if row not in self._alone:
            prompt = self.subject.prompts.rows[row]
            self._alone[row] = self.pruned_on(prompt)
        return self._alone[row]

    @property
    def pruned(self) -> Pruned:
        """The first row without padding."""
        return self.alone(0)

    def reference(self, kept: Mapping[int, Tensor], row: int = 0) -> Reference:
        """The independent reference on one row, in which these positions are left."""
        key = (row, *((layer, *kept[layer].tolist()) for layer in sorted(kept)))
        if key not in self._references:
            subject, prompt = self.subject, self.subject.prompts.rows[row]
            with MaskedReference(
                subject.model, subject.reference_kernel, self.schedule, prompt.visual[0], kept
            ) as masked:
                made = subject.run(prompt)
            self._references[key] = Reference(made, masked.scores, masked.alive)
        return self._references[key]


def _apart(a: Run, b: Run) -> float:
    return max(distance(a.steps, b.steps), distance(a.logits[0], b.logits[0]))
