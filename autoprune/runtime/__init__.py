"""USE a schedule: the patch for stock transformers models, its criteria and its report."""

from autoprune.runtime.patch import Patch, apply, apply_recorded
from autoprune.runtime.pruner import ScoreKey
from autoprune.runtime.recording import Recording, record
from autoprune.runtime.report import Report

__all__ = ["Patch", "Recording", "Report", "ScoreKey", "apply", "apply_recorded", "record"]
