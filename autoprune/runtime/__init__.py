"""USE a schedule: the patch for stock transformers models, its criteria and its report."""

from autoprune.runtime.patch import Patch, apply
from autoprune.runtime.recording import Recording, record
from autoprune.runtime.report import Report

__all__ = ["Patch", "Recording", "Report", "apply", "record"]
