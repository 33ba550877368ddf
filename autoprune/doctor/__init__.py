"""Is pruning exact on this very model and machine? Checks that need no knowledge of any family."""

from __future__ import annotations

from autoprune.doctor.case import Subject
from autoprune.doctor.examination import Examination, Result, examine
from autoprune.doctor.opening import random_subject, subject_of
from autoprune.doctor.schedules import default_schedules

__all__ = ["Examination", "Result", "Subject", "default_schedules", "examine", "random_subject", "subject_of"]
