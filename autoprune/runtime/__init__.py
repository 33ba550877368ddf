"""The patch for stock transformers models: visual tokens pruned inside the decoder, as a schedule says.

From a schedule to a shortened layer: ``schedule/schedule.py`` (the file), ``patch.py`` (hooks on the model),
``call.py`` (what a call brings, and which of its tokens are visual), ``pruner.py`` (the stages of one pass),
``criteria/<name>.py`` (scores), ``survivors.py`` (choice and gathering).
"""

from autoprune.runtime.patch import Patch, apply
from autoprune.runtime.plan import ScoreKey
from autoprune.runtime.recording import Recording, Replays, record, replaying
from autoprune.runtime.report import Report

__all__ = ["Patch", "Recording", "Replays", "Report", "ScoreKey", "apply", "record", "replaying"]
