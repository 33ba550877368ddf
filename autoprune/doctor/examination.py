"""All checks on one model under several schedules: the table of results."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from autoprune.doctor.case import Case, Subject
from autoprune.doctor.checks import CHECKS, IDENTITY, Check
from autoprune.doctor.finding import Finding, Status, failed, inapplicable
from autoprune.doctor.schedules import keep_everything
from autoprune.errors import ModelError
from autoprune.runtime import apply
from autoprune.schedule import Schedule

_RAISED = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""What a model raises that is called in a way it does not bear."""


@dataclass(frozen=True)
class Result:
    """One row of the table.

    Attributes:
        check: Name of the check.
        schedule: Name of the schedule.
        status: What came out.
        reason: Why, with figures.
        seconds: Time taken, runs included that later checks use again.
    """

    check: str
    schedule: str
    status: Status
    reason: str
    seconds: float


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        inputs: What the model was asked.
        device: Where it ran.
        dtype: In which precision.
        kernel: Attention implementation that the checks ran with.
        reference: That of the reference.
        kernels: Implementations that can be pruned and that the model accepts.
        noise: Relative distance of logits between unpatched runs, by what made it.
        tolerance: Relative distance that exact runs may have; more where padding or the missing cache comes on top.
        results: One per check and schedule.
    """

    inputs: str
    device: str
    dtype: str
    kernel: str
    reference: str
    kernels: list[str]
    noise: dict[str, float]
    tolerance: float
    results: list[Result]

    def count(self, status: Status) -> int:
        """How many checks came out so."""
        return sum(result.status == status for result in self.results)

    @property
    def conclusive(self) -> bool:
        """Whether pruned logits were compared with the reference at all, so that a pass means something."""
        return any(result.check == "masked reference" and result.status != "not applicable" for result in self.results)

    @property
    def passed(self) -> bool:
        """Whether pruning is exact here: shown, and nothing failed."""
        return self.conclusive and not self.count("fail")

    def to_dict(self) -> dict[str, Any]:
        """The examination as a JSON object; a distance that is no number is null."""
        noise = {name: value if math.isfinite(value) else None for name, value in self.noise.items()}
        return {"passed": self.passed, "conclusive": self.conclusive, **asdict(self), "noise": noise}


def examine(
    subject: Subject, schedules: Mapping[str, Schedule | str], on_step: Callable[[str], object] = lambda step: None
) -> Examination:
    """Run every check.

    Args:
        subject: The model and what it is asked.
        schedules: By name, a schedule, or why there is none.
        on_step: Called with what is about to run.

    Raises:
        ModelError: a schedule is not for this model, or already an unpatched run of the model fails.
        PatchError: a schedule cannot be applied.
    """
    for schedule in schedules.values():
        if isinstance(schedule, Schedule):
            apply(subject.model, schedule, subject.prompts.rows[0].mask).remove()
    with torch.inference_mode():
        on_step("dense runs")
        _check_dense(subject)
        results = _checked(subject, "keep all", keep_everything(subject.model), IDENTITY, on_step)
        for name, schedule in schedules.items():
            results += _checked(subject, name, schedule, CHECKS, on_step)
        noise = {
            "kernel": subject.kernel_noise,
            "padding": subject.padding_noise,
            "no cache": subject.cache_noise,
        }
        return Examination(
            inputs=subject.prompts.about,
            device=str(subject.model.device),
            dtype=str(subject.model.dtype).removeprefix("torch."),
            kernel=subject.kernel,
            reference=subject.reference_kernel,
            kernels=subject.kernels,
            noise=noise,
            tolerance=subject.tolerance(),
            results=results,
        )


def _check_dense(subject: Subject) -> None:
    try:
        finite = bool(torch.isfinite(subject.dense.steps).all()) and subject.kernel_noise > 0
    except _RAISED as error:
        raise ModelError(
            f"the unpatched model fails on {subject.prompts.about}: {_line(error)}",
            field="model",
            value=type(subject.model).__name__,
            remedy="see that it generates without autoprune; if it needs images, put its processor beside the config",
        ) from error
    if not finite:
        raise ModelError(
            f"the unpatched model gives non-finite logits on {subject.prompts.about}",
            field="model",
            value=type(subject.model).__name__,
            remedy="check its weights and precision",
        )


def _checked(
    subject: Subject, name: str, schedule: Schedule | str, checks: Mapping[str, Check], on_step: Callable[[str], object]
) -> list[Result]:
    if isinstance(schedule, str):
        return [Result("all", name, "not applicable", schedule, 0.0)]
    case, results = Case(subject, schedule), []
    for check, function in checks.items():
        on_step(f"{name}: {check}")
        started = time.perf_counter()
        finding = _finding(function, case)
        results.append(Result(check, name, finding.status, finding.reason, time.perf_counter() - started))
    return results


def _finding(check: Check, case: Case) -> Finding:
    try:
        return check(case)
    except _RAISED as error:
        if str(getattr(error, "field", "")).startswith("criterion"):
            return inapplicable(_line(error))
        return failed(f"{type(error).__name__}: {_line(error)}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
