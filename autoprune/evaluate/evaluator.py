"""Scores of schedules on a data set: the verdicts of ``generate()`` under the patch, many times faster."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from functools import partial
from statistics import fmean
from typing import Any

from autoprune.data.samples import SampleSet
from autoprune.errors import DataError
from autoprune.evaluate.abilities import servable_layers
from autoprune.evaluate.batch import PreparedBatch
from autoprune.evaluate.candidate import CandidateRun, Decoding, RecordedBatch, drop_pixels
from autoprune.evaluate.encoding import Forced, shared_features
from autoprune.evaluate.forcing import unlike_generated, why_unforced
from autoprune.evaluate.memory import BatchMemory
from autoprune.evaluate.metrics import EXACT_MATCH, Metric
from autoprune.evaluate.planning import plan_batches
from autoprune.evaluate.prefix import DensePrefix, Replayer
from autoprune.evaluate.regroup import Regrouping
from autoprune.evaluate.repeats import RepeatedRows
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.sharing import Sharing
from autoprune.evaluate.stepwise import SteppedBatch, stepped_answers, stepped_batch, stepped_pass
from autoprune.evaluate.towers import rows_scored_once
from autoprune.evaluate.trie import tree
from autoprune.evaluate.vision import VisionCounter
from autoprune.evaluate.walk import Walk
from autoprune.models.generation import check_greedy
from autoprune.models.loading import LoadedModel
from autoprune.pricing.cost import Pricer
from autoprune.pricing.tokens import PromptCounts
from autoprune.runtime import ScoreKey
from autoprune.schedule import Criterion, Reads, Schedule

Progress = Callable[[int, int], None]
"""Called with (samples done, samples)."""
_DENSE = Schedule()
_OPEN_ROWS = 64  # unfinished answers that are decoded on together
_SHARED_SHARE = 2  # passes that candidates share may hold one part in so many of the memory for recordings
_OPEN_SHARE = 4  # they likewise


class Evaluator:
    """Scores schedules on one data set with one model.

    One dense pass per batch is recorded; a candidate runs only the layers from its first stage on, with the dense
    model's greedy answer as the continuation. Where its arg-max agrees with that answer to the end, that is the
    candidate's answer too; else greedy decoding goes on from the first mismatch. So the verdicts are those of
    ``generate()``. Where one pass over prompt and answer does not give what ``generate()`` sees, schedules are scored
    by ``generate()`` itself, which takes far longer.

    Args:
        loaded: The model.
        data: The samples.
        batch_size: Rows that run together.
        max_new_tokens: Longest answer.
        criteria: Criteria that candidates will use; what the dense pass holds of their scores is recorded once.
        cache_bytes: Memory for image features and recorded passes together, whatever the number of rows; what does not
            fit is computed again, from the images where it must be. Passes that candidates share may hold half as much
            on top, unfinished answers a quarter.
        order: The order in which a race asks for samples: the first `batch_size`, twice, four times … of them are whole
            batches. Default: as in `data`.
        metric: Judges the answers.

    Attributes:
        sharing: Work on candidates so far, and how much of it was shared; none where it generates.

    Raises:
        DataError: the arguments do not fit the data.
        ModelError: the model's answers are not plain greedy ones, or its structure cannot be priced.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        data: SampleSet,
        *,
        batch_size: int = 16,
        max_new_tokens: int = 32,
        criteria: Sequence[Criterion] = (),
        cache_bytes: int = 2 * 1024**3,
        order: Sequence[int] | None = None,
        metric: Metric = EXACT_MATCH,
    ) -> None:
        if batch_size < 1 or max_new_tokens < 1:
            field, value = ("batch_size", batch_size) if batch_size < 1 else ("max_new_tokens", max_new_tokens)
            raise DataError("must be at least 1", field=field, value=value)
        self.sharing = Sharing()
        self.order = tuple(range(len(data)) if order is None else order)
        if sorted(self.order) != list(range(len(data))):
            raise DataError(f"must hold each of 0 to {len(data) - 1} once", field="order", value=len(self.order))
        check_greedy(loaded.model.generation_config)
        self._loaded, self._data = loaded, data
        self._batch_size, self._max_new_tokens = batch_size, max_new_tokens
        self._keys = _score_keys(loaded, criteria)
        self._cache_bytes = cache_bytes
        self._memory: BatchMemory[Any] = BatchMemory(cache_bytes, (_forget_pass, PreparedBatch.release))
        self._metric = metric
        self._pricer = Pricer(loaded.config, loaded.model.dtype.itemsize)
        self._unforced: str | None = None
        self._vision = VisionCounter(loaded)
        self._batches: list[RecordedBatch] = []
        self._stepped: list[SteppedBatch] = []
        self._regrouping = Regrouping((), batch_size, self._restore_source)

    def prepare(self, progress: Progress | None = None) -> None:
        """Answers every sample with the dense model and records its pass; done once, called by the other methods.

        Args:
            progress: Called with (samples done, samples).
        """
        if self._prepared:
            return
        planned = plan_batches(self._loaded.processor, self._data, self.order, self._batch_size)
        progress = progress or (lambda done, total: None)
        self._unforced = why_unforced(self._loaded, self._data)
        if self._unforced is None:
            self._batches = self._recorded(planned, progress)
            self._regrouping = Regrouping(self._batches, self._batch_size, self._restore_source)
        if self._unforced is not None:
            self._stepped = self._generated(planned, progress)

    @property
    def by_generating(self) -> str | None:
        """Why schedules are scored by ``generate()``, and what that costs; None where answers are teacher-forced."""
        self.prepare()
        if self._unforced is None:
            return None
        steps = fmean(counts.new for counts in self.prompts)
        return (
            f"{self._unforced}, so schedules are scored by generating: for each row a prefill and {steps:.3g} decode "
            "steps, once or twice, where teacher forcing takes a part of one forward pass"
        )

    @property
    def recorded_bytes(self) -> int:
        """Memory that image features and recorded passes hold now."""
        return self._memory.nbytes

    @property
    def near_ties(self) -> float:
        """Share of samples whose verdict may not repeat: a token of the dense answer wins by less than kernel noise."""
        self.prepare()
        flags = [flag for batch in self._prepared for flag in batch.near_ties]
        return sum(flags) / len(flags)

    @property
    def prompts(self) -> tuple[PromptCounts, ...]:
        """Token counts of each sample, as in the data."""
        self.prepare()
        found = {i: counts for batch in self._prepared for i, counts in zip(batch.indices, batch.counts, strict=True)}
        return tuple(found[i] for i in range(len(self._data)))

    def dense(self, indices: Sequence[int] | None = None) -> list[SampleResult]:
        """Results of the dense model, in the order of `indices` (default: all samples, as in the data)."""
        return self.evaluate(_DENSE, indices)

    def evaluate(self, schedule: Schedule, indices: Sequence[int] | None = None) -> list[SampleResult]:
        """Results of a schedule, in the order of `indices` (default: all samples, as in the data).

        Raises:
            EvaluationError: non-finite logits.
            PatchError: a criterion cannot be computed on these samples.
        """
        return self.evaluate_many([schedule], indices)[0]

    def evaluate_many(
        self, schedules: Sequence[Schedule], indices: Sequence[int] | None = None
    ) -> list[list[SampleResult]]:
        """Results of several schedules, batch by batch, so that a recorded pass that does not stay in memory is
        computed once for all of them.
        """
        self.prepare()
        wanted = list(range(len(self._data)) if indices is None else indices)
        outside = [index for index in wanted if not 0 <= index < len(self._data)]
        if outside:
            raise DataError(f"must be in 0 to {len(self._data) - 1}", field="indices", value=outside[0])
        for schedule in schedules:
            schedule.check_model(self._loaded.config)
        decoding = Decoding(self._loaded.model, self._max_new_tokens, _OPEN_ROWS, self._cache_bytes // _OPEN_SHARE)
        runs = [CandidateRun(schedule, self._pricer, decoding) for schedule in schedules]
        if self._stepped:
            self._generate(runs, schedules, wanted)
        else:
            self._replay(runs, schedules, wanted, decoding)
        return [[run.results[index] for index in wanted] for run in runs]

    def _replay(
        self, runs: Sequence[CandidateRun], schedules: Sequence[Schedule], wanted: Sequence[int], decoding: Decoding
    ) -> None:
        trees = tree(schedules)
        with Replayer(self._loaded.model) as replayer:
            for batch in self._regrouping.covering(wanted, replayer.suspended):
                if batch.tensors is None:
                    with replayer.suspended():
                        self._restore(batch)
                walk = Walk(batch, replayer, runs, decoding, self._cache_bytes // _SHARED_SHARE)
                walk.through(trees)
                self.sharing += walk.sharing
                self._memory.keep(batch)
        decoding.finish()

    def _generate(self, runs: Sequence[CandidateRun], schedules: Sequence[Schedule], wanted: Collection[int]) -> None:
        for batch in self._stepped:
            if set(wanted).isdisjoint(batch.indices):
                continue
            batch.restore(self._loaded, partial(stepped_pass, self._loaded))
            for run, schedule in zip(runs, schedules, strict=True):
                if all(stage.keep.ratio == 1.0 for stage in schedule.stages):
                    run.add_dense(batch)
                else:
                    run.store(batch, *stepped_answers(self._loaded, batch, schedule, self._max_new_tokens))
            self._memory.keep(batch)

    @property
    def _prepared(self) -> Sequence[PreparedBatch[Any]]:
        return self._batches or self._stepped

    def _recorded(
        self, planned: Sequence[tuple[int, ...]], progress: Callable[[int, int], None]
    ) -> list[RecordedBatch]:
        """All batches with their recorded dense passes; none, and the reason noted, if a pass shows another answer."""
        batches: list[RecordedBatch] = []
        for indices in planned:
            batch = self._recorded_batch(indices)
            self._unforced = unlike_generated(batch)
            if not batches:
                self._unforced = self._unforced or batch.dense_pass.why_not_again()
            if self._unforced is not None:
                return []
            batches.append(batch)
            self._memory.keep(batch)
            progress(sum(len(done.indices) for done in batches), len(self._data))
        return batches

    def _generated(
        self, planned: Sequence[tuple[int, ...]], progress: Callable[[int, int], None]
    ) -> list[SteppedBatch]:
        batches: list[SteppedBatch] = []
        self._memory = BatchMemory(self._cache_bytes, (PreparedBatch.release,))
        for indices in planned:
            batches.append(
                stepped_batch(self._loaded, self._data, indices, self._max_new_tokens, self._vision, self._metric)
            )
            self._memory.keep(batches[-1])
            progress(sum(len(done.indices) for done in batches), len(self._data))
        return batches

    def _recorded_batch(self, indices: Sequence[int]) -> RecordedBatch:
        model = self._loaded.model
        with nullcontext() if self._tower_keys else shared_features(model):
            batch = PreparedBatch.prepare(
                self._loaded,
                self._data,
                indices,
                self._max_new_tokens,
                dense_pass=self._dense_pass,
                vision=self._vision,
                metric=self._metric,
            )
        drop_pixels(batch)
        return batch

    @property
    def _tower_keys(self) -> list[ScoreKey]:
        """Scores of the vision tower, which are read while it runs."""
        return [key for key in self._keys if key[1].reads is Reads.TOWER]

    def _dense_pass(self, rows: RepeatedRows, forced: Forced) -> DensePrefix:
        model, tower = self._loaded.model, self._tower_keys
        if tower and not rows.visual:  # the images of a row are its own, so the pass itself runs the tower
            return DensePrefix.of(model, forced, self._keys)
        with shared_features(model):
            scored = rows_scored_once(model, rows, tower) if tower else None
            with rows.features_once(model):
                prefix = DensePrefix.of(model, forced, [key for key in self._keys if key not in tower])
        if scored is not None:
            prefix.scores.update(scored.laid_out(prefix.visual_mask))
        return prefix

    def _restore(self, batch: RecordedBatch) -> None:
        batch.restore(self._loaded, self._dense_pass)
        drop_pixels(batch)

    def _restore_source(self, batch: RecordedBatch) -> None:
        """Restores what rows of a batch are cut out of, if it was released: its pass itself is not needed."""
        if batch.tensors is None:
            self._restore(batch)
            batch.dense_pass.forget()
            self._memory.add(batch)


def _score_keys(loaded: LoadedModel, criteria: Sequence[Criterion]) -> list[ScoreKey]:
    """The scores that a first stage before any layer would use, of those that the dense pass holds already."""
    recorded = [criterion for criterion in dict.fromkeys(criteria) if criterion.recordable]
    return [(layer, c) for c in recorded for layer in servable_layers(loaded.config, c)]


def _forget_pass(batch: RecordedBatch) -> None:
    if batch.tensors is not None:
        batch.dense_pass.forget()
