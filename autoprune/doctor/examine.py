"""All checks on one model under several schedules, and the schedules that a user without one gets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from autoprune.doctor.bookkeeping import entries, fired, positions, undo
from autoprune.doctor.case import Case, ModelUnderTest
from autoprune.doctor.equality import decisions, identity, masked_reference, other_kernel, padded_batch, without_cache
from autoprune.doctor.outcomes import Outcome, Status, failed, inapplicable
from autoprune.doctor.prompts import VisualPrompt
from autoprune.errors import ModelError, PatchError
from autoprune.runtime import apply
from autoprune.runtime.decoder import attention_of, decoder_layers, find_decoder
from autoprune.schedule import Schedule

Check = Callable[[Case], Outcome]
IDENTITY: dict[str, Check] = {"identity": identity}
"""Checks under a schedule that keeps everything."""

CHECKS: dict[str, Check] = {
    "pruning fired": fired,
    "masked reference": masked_reference,
    "decisions": decisions,
    "KV lengths": entries,
    "positions": positions,
    "padded batch": padded_batch,
    "without cache": without_cache,
    "other kernel": other_kernel,
    "undo": undo,
}
"""Checks under every schedule; one more is one function and one row."""

_RAISED = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""Errors of a model that is called in a way it does not support."""
_ALL = 10**9
_CHANCE: dict[str, Any] = {"name": "random", "seed": 0}


@dataclass(frozen=True)
class CheckResult:
    """One row of the table.

    Attributes:
        check: Name of the check.
        schedule: Name of the schedule.
        status: The outcome.
        reason: Why, with figures.
        seconds: Time taken, runs included that later checks use again.
    """

    check: str
    schedule: str
    status: Status
    reason: str
    seconds: float


@dataclass(frozen=True)
class DoctorReport:
    """Results of all checks on one model, and what they were measured with.

    Attributes:
        inputs: The prompts, in words.
        device: Where the model ran.
        dtype: In which precision.
        kernel: Attention implementation that the checks ran with.
        reference: Attention implementation of the masked reference.
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
    results: list[CheckResult]

    def count(self, status: Status) -> int:
        """Number of checks with this outcome."""
        return sum(result.status == status for result in self.results)

    @property
    def conclusive(self) -> bool:
        """Whether pruned logits were compared with the reference at all, so that a pass means something."""
        return any(result.check == "masked reference" and result.status != "not applicable" for result in self.results)

    @property
    def passed(self) -> bool:
        """Whether pruning is exact here: compared with the reference, and no check failed."""
        return self.conclusive and not self.count("fail")

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON object; a distance that is no number is null."""
        noise = {name: value if math.isfinite(value) else None for name, value in self.noise.items()}
        return {"passed": self.passed, "conclusive": self.conclusive, **asdict(self), "noise": noise}


def examine(
    tested: ModelUnderTest,
    schedules: Mapping[str, Schedule | str],
    on_step: Callable[[str], object] = lambda step: None,
) -> DoctorReport:
    """Run every check on one model.

    Args:
        tested: The model and its prompts.
        schedules: By name, a schedule, or why there is none.
        on_step: Called with a description of what is about to run.

    Raises:
        ModelError: a schedule is not for this model, or already an unpatched run of the model fails.
        PatchError: a schedule cannot be applied.
    """
    for schedule in schedules.values():
        if isinstance(schedule, Schedule):
            apply(tested.model, schedule, tested.prompts.rows[0].mask).remove()
    with torch.inference_mode():
        on_step("dense runs")
        _check_dense(tested)
        results = _checked(tested, "keep all", keep_everything(tested.model), IDENTITY, on_step)
        for name, schedule in schedules.items():
            results += _checked(tested, name, schedule, CHECKS, on_step)
        noise = {
            "kernel": tested.kernel_noise,
            "padding": tested.padding_noise,
            "no cache": tested.cache_noise,
        }
        return DoctorReport(
            inputs=tested.prompts.about,
            device=str(tested.model.device),
            dtype=str(tested.model.dtype).removeprefix("torch."),
            kernel=tested.kernel,
            reference=tested.reference_kernel,
            kernels=tested.kernels,
            noise=noise,
            tolerance=tested.tolerance(),
            results=results,
        )


def _check_dense(tested: ModelUnderTest) -> None:
    try:
        finite = bool(torch.isfinite(tested.dense.steps).all()) and tested.kernel_noise > 0
    except _RAISED as error:
        raise ModelError(
            f"the unpatched model fails on {tested.prompts.about}: {_line(error)}",
            field="model",
            value=type(tested.model).__name__,
            remedy="see that it generates without autoprune; if it needs images, put its processor beside the config",
        ) from error
    if not finite:
        raise ModelError(
            f"the unpatched model gives non-finite logits on {tested.prompts.about}",
            field="model",
            value=type(tested.model).__name__,
            remedy="check its weights and precision",
        )


def _checked(
    tested: ModelUnderTest,
    name: str,
    schedule: Schedule | str,
    checks: Mapping[str, Check],
    on_step: Callable[[str], object],
) -> list[CheckResult]:
    if isinstance(schedule, str):
        return [CheckResult("all", name, "not applicable", schedule, 0.0)]
    case, results = Case(tested, schedule), []
    for check, function in checks.items():
        on_step(f"{name}: {check}")
        started = time.perf_counter()
        outcome = _outcome(function, case)
        results.append(CheckResult(check, name, outcome.status, outcome.reason, time.perf_counter() - started))
    return results


def _outcome(check: Check, case: Case) -> Outcome:
    try:
        return check(case)
    except _RAISED as error:
        if str(getattr(error, "field", "")).startswith("criterion"):
            return inapplicable(_line(error))
        return failed(f"{type(error).__name__}: {_line(error)}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def keep_everything(model: Any) -> Schedule:
    """A schedule with a stage before every layer, scored wherever there is attention to read, that keeps all tokens."""
    scored = _has_attention(model)
    stages = []
    for k in range(len(scored)):
        criterion = {"name": "attention", "rows": "last"} if k and scored[k - 1] else {"name": "uniform"}
        stages.append({"layer": k, "keep": {"count": _ALL}, "criterion": criterion})
    return Schedule.model_validate({"stages": stages})


def default_schedules(model: Any, prompt: VisualPrompt) -> dict[str, Schedule | str]:
    """Schedules for a user who has none, which together use every part of the runtime.

    Returns:
        By name: a schedule, or why it is not for this model.
    """
    return {name: _possible(model, schedule, prompt) for name, schedule in _designed(_has_attention(model)).items()}


def _designed(scored: list[bool]) -> dict[str, Schedule | str]:
    """The schedules for layers that have attention or have none."""
    depth = len(scored)
    shallow = f"the decoder has {depth} layers, which is too few"
    designed: dict[str, Schedule | str] = {}
    first = next((k for k in range(max(1, depth // 4), depth) if scored[k - 1]), None)
    second = next((k for k in range(max(depth // 2, (first or depth) + 1), depth) if scored[k]), None)
    if not any(scored):
        designed["by attention"] = "no decoder layer has attention"
    elif first is None or second is None:
        designed["by attention"] = shallow
    else:
        designed["by attention"] = _schedule(
            (first, 0.5, {"name": "attention", "rows": "text"}),
            (second, 0.2, {"name": "attention", "rows": "last", "at": "current"}),
        )
    designed["withdrawal"] = _schedule((depth // 2, 0.0, None)) if depth > 1 else shallow
    designed["from layer 0"] = _schedule((0, 0.5, {"name": "uniform"}), *([(depth - 1, 0.25, _CHANCE)] * (depth > 1)))
    return designed


def _possible(model: Any, schedule: Schedule | str, prompt: VisualPrompt) -> Schedule | str:
    if isinstance(schedule, str):
        return schedule
    try:
        apply(model, schedule, prompt.mask).remove()
    except PatchError as error:
        return str(error)
    return schedule


def _schedule(*stages: tuple[int, float, dict[str, Any] | None]) -> Schedule:
    entries = []
    for layer, ratio, criterion in stages:
        entry: dict[str, Any] = {"layer": layer, "keep": {"ratio": ratio}}
        entries.append(entry if criterion is None else {**entry, "criterion": criterion})
    return Schedule.model_validate({"stages": entries})


def _has_attention(model: Any) -> list[bool]:
    decoder = find_decoder(model)
    return [attention_of(decoder, layer) is not None for layer in decoder_layers(decoder)]
