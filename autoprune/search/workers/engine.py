"""The engine of a worker: a transformers model measured on the study's data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from autoprune.data.samples import SampleSet, load_samples
from autoprune.errors import EvaluationError
from autoprune.evaluate.abilities import refused_criteria
from autoprune.evaluate.encoding import encode, model_inputs
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.latency import prefills_per_arm, time_prefill
from autoprune.evaluate.lengths import check_lengths
from autoprune.evaluate.metrics import Metric, load_metric, measuring_version
from autoprune.evaluate.objectives import ACCURACY
from autoprune.evaluate.preflight import Preflight, look
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.sharing import Sharing
from autoprune.models.config import read_config
from autoprune.models.environment import gpu_name, peak_bytes
from autoprune.models.loading import LoadedModel, load_model
from autoprune.pricing.cost import CONVENTION
from autoprune.runtime.decoder import visual_token_ids
from autoprune.schedule import ModelIdentity, Schedule
from autoprune.search.racing import race_order
from autoprune.search.scope import Scope
from autoprune.search.sections import DataSet
from autoprune.search.spec import StudySpec
from autoprune.search.workers.protocol import EngineFacts, Inputs, Split, SplitFacts, Times

_TIMED_TOKENS = 4
_TIMED_REPEATS = 5
_TIMED_BASELINES = 3


def read_inputs(spec: StudySpec) -> Inputs:
    """Reads the model's config and checks every row of the data; loads no model.

    Raises:
        DataError: rows that cannot be used.
    """
    config = read_config(spec.model.path, options=spec.model)
    calibration = _facts(_load(spec.data.calibration))
    validation = _facts(_load(spec.data.validation)) if spec.data.validation else None
    return Inputs(config, ModelIdentity.from_config(config, spec.model.path).num_layers, calibration, validation)


def open_engine(spec: StudySpec) -> ModelEngine:
    """Loads the model and measures it dense on the calibration rows.

    Raises:
        ModelError: the model cannot be loaded or measured.
        EvaluationError: the dense model itself fails, or gets nothing right where the study searches for accuracy.
    """
    opened = _OpenStudy.of(spec)
    found = opened.look()
    if found.problem and ACCURACY.name in spec.qualities:
        raise EvaluationError(
            found.problem,
            field="data.calibration",
            remedy="look at the prompt and the answers with --dry-run, or search for agreement or kl, not accuracy",
        )
    return ModelEngine(opened, found)


def preflight(spec: StudySpec) -> Preflight:
    """Loads the model and looks at it on the first calibration rows.

    Raises:
        ModelError: the model cannot be loaded or measured.
        EvaluationError: the dense model itself fails.
    """
    return _OpenStudy.of(spec).look()


@dataclasses.dataclass(frozen=True)
class _OpenStudy:
    """A study with its model, before anything is measured."""

    spec: StudySpec
    loaded: LoadedModel
    metric: Metric
    calibration: SampleSet
    scope: Scope
    refused: Mapping[str, str]

    @classmethod
    def of(cls, spec: StudySpec) -> _OpenStudy:
        loaded, calibration = load_model(spec.model.path, spec.model), _load(spec.data.calibration)
        for rows in (calibration, _load(spec.data.validation) if spec.data.validation else ()):
            check_lengths(loaded, rows)
        depth = ModelIdentity.from_config(loaded.config, spec.model.path).num_layers
        refused = refused_criteria(loaded, calibration, Scope.of(spec, loaded.config, depth).criteria)
        scope = Scope.of(spec, loaded.config, depth, refused)
        return cls(spec, loaded, load_metric(spec.metric), calibration, scope, refused)

    def look(self) -> Preflight:
        evaluation = self.spec.evaluation
        return look(
            self.loaded,
            self.calibration,
            race_order(len(self.calibration)),
            [one.schedule for one in self.scope.baselines[:_TIMED_BASELINES]],
            batch_size=evaluation.batch_size,
            max_new_tokens=evaluation.max_new_tokens,
            criteria=self.scope.criteria,
            metric=self.metric,
            until_right=ACCURACY.name in self.spec.qualities,
        )


class ModelEngine:
    """A loaded model with its dense pass over the calibration rows.

    Attributes:
        sharing: Work on candidates so far, and how much of it was shared.
    """

    def __init__(self, opened: _OpenStudy, found: Preflight) -> None:
        self._spec, self._evaluation, self.sharing = opened.spec, opened.spec.evaluation, Sharing()
        self._loaded, self._metric, self._preflight = opened.loaded, opened.metric, found
        self._calibration, self._order = opened.calibration, race_order(len(opened.calibration))
        self._refused, self._criteria = opened.refused, opened.scope.criteria
        self._evaluator = Evaluator(
            self._loaded,
            self._calibration,
            batch_size=self._evaluation.batch_size,
            max_new_tokens=self._evaluation.max_new_tokens,
            criteria=self._criteria,
            order=self._order,
            metric=self._metric,
        )
        self._evaluator.prepare()
        self._validation: SampleSet | None = None

    def facts(self) -> EngineFacts:
        """Fingerprint, way of measuring, dtype and device."""
        model = self._loaded.model
        details: dict[str, Any] = {**self._loaded.measured_in, "device": str(model.device)}
        if model.device.type == "cuda":
            details["gpu"] = gpu_name(model.device)
        details["near_ties"] = self._evaluator.near_ties
        if self._evaluator.by_generating is not None:
            details["by_generating"] = self._evaluator.by_generating
        details |= self._token_counts()
        version = f"{measuring_version(self._metric)}/{self._evaluation.batch_size}/{self._evaluation.max_new_tokens}"
        return EngineFacts(
            fingerprint=self._loaded.fingerprint,
            metric_version=version,
            convention=CONVENTION,
            details=details | self._metric.evidence,
            prompts=self._evaluator.prompts,
            number_bytes=model.dtype.itemsize,
            refused=self._refused,
            preflight=self._preflight,
        )

    def peak_bytes(self) -> int:
        """Largest memory so far."""
        return peak_bytes(self._loaded.model.device)

    def evaluate(self, split: Split, schedules: Sequence[Schedule], rows: Sequence[int]) -> list[list[SampleResult]]:
        """Results of these rows, in this order, under each schedule."""
        if split == "calibration":
            before = self._evaluator.sharing
            results = self._evaluator.evaluate_many(schedules, rows)
            self.sharing += self._evaluator.sharing - before
            return results
        # A chunk of the validation rows is prepared, measured under all schedules, and let go.
        if self._validation is None:
            assert self._spec.data.validation is not None, "the driver asks only for what the study has"
            self._validation = _load(self._spec.data.validation)
        chunk = SampleSet.of([self._validation[row] for row in rows], self._validation.name)
        evaluator = Evaluator(
            self._loaded,
            chunk,
            batch_size=self._evaluation.batch_size,
            max_new_tokens=self._evaluation.max_new_tokens,
            criteria=self._criteria,
            metric=self._metric,
        )
        found = evaluator.evaluate_many(schedules)
        self.sharing += evaluator.sharing
        return [[dataclasses.replace(r, index=rows[r.index]) for r in results] for results in found]

    def latency(self, schedules: Sequence[Schedule]) -> list[Times]:
        """Milliseconds of one batch of calibration rows, dense beside pruned."""
        samples = [self._calibration[i] for i in self._order[: self._evaluation.batch_size]]
        inputs = model_inputs(self._loaded, samples)
        dense, *pruned = time_prefill(
            self._loaded.model, inputs, [None, *schedules], repeats=_TIMED_REPEATS, new_tokens=_TIMED_TOKENS
        )
        prefills = prefills_per_arm(_TIMED_REPEATS, new_tokens=_TIMED_TOKENS)
        return [
            {
                "prefill_ms": one.prefill_ms,
                "prefill_dense_ms": dense.prefill_ms,
                "prefill_spread_ms": one.spread,
                "end_to_end_ms": one.end_to_end_ms,
                "end_to_end_dense_ms": dense.end_to_end_ms,
                "batch": len(samples),
                "prefills": prefills,
                "together": len(schedules),
                "new_tokens": _TIMED_TOKENS,
            }
            for one in pruned
        ]

    def _token_counts(self) -> dict[str, float]:
        tokens = torch.tensor(visual_token_ids(self._loaded.config))
        samples = [self._calibration[i] for i in self._order[: self._evaluation.batch_size]]
        inputs = encode(self._loaded.processor, samples)
        total = inputs["attention_mask"].sum(1).tolist()
        visual = torch.isin(inputs["input_ids"], tokens).sum(1).tolist()
        if not any(visual):
            return {}
        return {"visual_tokens": fmean(visual), "text_tokens": fmean(a - v for a, v in zip(total, visual, strict=True))}


def _load(section: DataSet) -> SampleSet:
    return load_samples(section.path, **section.arguments)


def _facts(data: SampleSet) -> SplitFacts:
    groups, tasks = tuple(row.group for row in data), tuple(row.task for row in data)
    return SplitFacts(Path(data.name).name, data.digest, groups, tasks, data.kinds, data.unread)
