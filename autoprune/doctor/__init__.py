"""Checks that pruning is exact on this very model and machine; they need no knowledge of any family."""

from __future__ import annotations

from autoprune.doctor.case import ModelUnderTest, model_under_test, random_model_under_test
from autoprune.doctor.examine import CheckResult, DoctorReport, default_schedules, examine

__all__ = [
    "CheckResult",
    "DoctorReport",
    "ModelUnderTest",
    "default_schedules",
    "examine",
    "model_under_test",
    "random_model_under_test",
]
