"""The schedule file: which visual tokens leave, before which decoder layer, chosen by which criterion."""

from autoprune.schedule.criterion import (
    AttentionCriterion,
    CodebookCriterion,
    Criterion,
    DiversityCriterion,
    EncoderCriterion,
    RandomCriterion,
    UniformCriterion,
    parse_criterion,
)
from autoprune.schedule.identity import ModelIdentity
from autoprune.schedule.schedule import Keep, KeepKind, Schedule, Stage

__all__ = [
    "AttentionCriterion",
    "CodebookCriterion",
    "Criterion",
    "DiversityCriterion",
    "EncoderCriterion",
    "Keep",
    "KeepKind",
    "ModelIdentity",
    "RandomCriterion",
    "Schedule",
    "Stage",
    "UniformCriterion",
    "parse_criterion",
]
