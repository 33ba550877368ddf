"""A model under test and a case, which is such a model under one schedule: the runs that checks compare.

Each run is made once, when the first check asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from autoprune.data.rows import Sample
from autoprune.doctor.outcomes import allowed, distance, rounding
from autoprune.doctor.prompts import PromptSet, VisualPrompt, questions, reserved_ids, words
from autoprune.doctor.reference import MaskedReference
from autoprune.doctor.runs import DictatedRun, available_kernels, current_kernel, greedy_answer, kernel, run
from autoprune.errors import DataError, ModelError
from autoprune.models.config import needs_trust
from autoprune.models.loading import LoadedModel
from autoprune.models.options import DEFAULTS, ModelOptions
from autoprune.models.processors import load_processor
from autoprune.models.random_init import random_model
from autoprune.runtime import apply
from autoprune.runtime.decoder import decoder_layers, find_decoder
from autoprune.runtime.report import Report
from autoprune.schedule import Schedule
from autoprune.sources import hub_or_cache


class ModelUnderTest:
    """A model, its prompts, and its dense runs.

    Args:
        model: The model, unpatched.
        prompts: What every run is given.
        reserved: Token ids that no answer may hold.
    """

    def __init__(self, model: Any, prompts: PromptSet, reserved: list[int]) -> None:
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
        """Attention kernel of the reference: eager, which shows its attention maps, if the model accepts it."""
        return "eager" if "eager" in self.kernels else self.kernel

    @cached_property
    def answer(self) -> list[int]:
        """The tokens that every run is made to generate: the dense model's answer to the first row."""
        return greedy_answer(self.model, self.prompts.rows[0], self._reserved)

    def run(self, prompt: VisualPrompt, *, use_cache: bool = True) -> DictatedRun:
        """Run the model as it is now, patched or not, on a row or on the batch."""
        rows = self.prompts.rows if prompt is self.prompts.batch else (prompt,)
        return run(self.model, prompt, [row.columns for row in rows], self.answer, use_cache=use_cache)

    @cached_property
    def dense(self) -> DictatedRun:
        """The dense run on the first row."""
        return self.run(self.prompts.rows[0])

    @cached_property
    def dense_batch(self) -> DictatedRun:
        """The dense run on the padded batch."""
        return self.run(self.prompts.batch)

    @cached_property
    def dense_uncached(self) -> DictatedRun:
        """The dense run on the first row without a cache."""
        return self.run(self.prompts.rows[0], use_cache=False)

    @cached_property
    def repeatable(self) -> bool:
        """Whether the unpatched model gives the same bits twice."""
        return self.dense.same_bits(self.run(self.prompts.rows[0]))

    @cached_property
    def kernel_noise(self) -> float:
        """Distance of dense runs with another kernel; if the model has none, in a padded batch."""
        floor = rounding(self.model.dtype, self.depth)
        if self.other_kernel is None:
            return max(floor, self.padding_noise)
        with kernel(self.model, self.other_kernel):
            other = self.run(self.prompts.rows[0])
        return max(floor, other.distance(self.dense))

    @cached_property
    def padding_noise(self) -> float:
        """Distance of dense runs on a padded batch and on each of its rows alone."""
        noise = 0.0
        for b, prompt in enumerate(self.prompts.rows):
            alone = self.run(prompt) if b else self.dense
            steps = distance(self.dense_batch.steps[:, b], alone.steps[:, 0])
            noise = max(noise, steps, distance(self.dense_batch.logits[b], alone.logits[0]))
        return noise

    @cached_property
    def cache_noise(self) -> float:
        """Distance of dense runs with a cache and without."""
        return distance(self.dense_uncached.steps, self.dense.steps)

    def tolerance(self, *noises: float) -> float:
        """Distance that two exact runs may have, where these sources of noise come on top of the kernel's."""
        return allowed(self.kernel_noise, *noises)


@dataclass(frozen=True)
class PrunedRun:
    """A run under a patch, the patch's report, and the length of each row of the prompt."""

    run: DictatedRun
    report: Report
    lengths: tuple[int, ...]

    def kept(self, row: int = 0) -> dict[int, Tensor]:
        """For each stage's layer, the positions of a row's prompt that are left."""
        length = self.lengths[row]
        return {layer: left[row][left[row] < length] for layer, left in self.report.kept.items()}


@dataclass(frozen=True)
class ReferenceRun:
    """A run of the masked reference; `scores` and `alive` as in `MaskedReference`."""

    run: DictatedRun
    scores: dict[int, Tensor]
    alive: list[Tensor]


class Case:
    """A model under test with one schedule.

    Args:
        tested: The model under test.
        schedule: The schedule.
    """

    def __init__(self, tested: ModelUnderTest, schedule: Schedule) -> None:
        self.tested, self.schedule = tested, schedule
        self._alone: dict[int, PrunedRun] = {}
        self._references: dict[Any, ReferenceRun] = {}

    def pruned_on(self, prompt: VisualPrompt, name: str | None = None, *, use_cache: bool = True) -> PrunedRun:
        """A run under the schedule, with another kernel if one is named."""
        model = self.tested.model
        with kernel(model, name) if name else nullcontext(), apply(model, self.schedule, prompt.mask) as patch:
            result = self.tested.run(prompt, use_cache=use_cache)
            return PrunedRun(result, patch.report, tuple(prompt.inputs["attention_mask"].sum(1).tolist()))

    def alone(self, row: int) -> PrunedRun:
        """The pruned run on a row without padding."""
        if row not in self._alone:
            prompt = self.tested.prompts.rows[row]
            self._alone[row] = self.pruned_on(prompt)
        return self._alone[row]

    @property
    def pruned(self) -> PrunedRun:
        """The pruned run on the first row without padding."""
        return self.alone(0)

    def reference(self, kept: Mapping[int, Tensor], row: int = 0) -> ReferenceRun:
        """The run of the masked reference on one row, in which these positions are left."""
        key = (row, *((layer, *kept[layer].tolist()) for layer in sorted(kept)))
        if key not in self._references:
            tested, prompt = self.tested, self.tested.prompts.rows[row]
            kernel_name = tested.reference_kernel
            with MaskedReference(tested.model, kernel_name, self.schedule, prompt.visual[0], kept) as masked:
                self._references[key] = ReferenceRun(tested.run(prompt), masked.scores, masked.alive)
        return self._references[key]


def model_under_test(loaded: LoadedModel, samples: Sequence[Sample] = ()) -> ModelUnderTest:
    """A loaded model with the first samples as its prompts, or made-up ones.

    Raises:
        DataError: the processor refuses the samples.
        ModelError: the structure of the model is not supported.
    """
    model, processor = loaded.model, loaded.processor
    return ModelUnderTest(model, questions(model, processor, samples), reserved_ids(model, processor))


def random_model_under_test(
    path: str | Path, config: Any, samples: Sequence[Sample] = (), options: ModelOptions = DEFAULTS
) -> ModelUnderTest:
    """A model with random weights: prompted through its processor if there is one, else with random words.

    Args:
        path: Where a processor may be: a folder, a file in it, or a name on the hub.
        config: The model's config.
        samples: What to prompt it with.
        options: How it is built, and how the processor is loaded.

    Raises:
        DataError: there are samples and no processor, or it refuses them.
        ModelError: the model cannot be built, or its structure is not supported.
    """
    processor = _processor(path, config, options)
    if processor is None and samples:
        raise DataError("needs a processor beside the config", field="--data", remedy="leave --data out")
    model = random_model(config, options=options)
    prompts = questions(model, processor, samples) if processor else words(model, "no processor beside the config")
    return ModelUnderTest(model, prompts, reserved_ids(model, processor))


def _processor(path: str | Path, config: Any, options: ModelOptions) -> Any:
    """The processor, if one for images is there."""
    folder = Path(path).parent if Path(path).is_file() else path
    try:
        with hub_or_cache(folder):
            processor = load_processor(folder, config, options)
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:  # some library's way to say: not there
        if untrusted := needs_trust(error, path):
            raise untrusted from error
        return None
    return processor if hasattr(processor, "image_processor") else None
