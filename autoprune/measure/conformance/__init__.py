"""Is pruning exact on this very model and machine? Checks that need no knowledge of any family."""

from __future__ import annotations

from autoprune.measure.conformance.case import Subject
from autoprune.measure.conformance.examination import Examination, Result, examine
from autoprune.measure.conformance.opening import random_subject, subject_of
from autoprune.measure.conformance.schedules import default_schedules

__all__ = ["Examination", "Result", "Subject", "default_schedules", "examine", "random_subject", "subject_of"]
