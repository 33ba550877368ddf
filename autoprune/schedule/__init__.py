"""The schedule file: which visual tokens leave, before which decoder layer, chosen by which criterion."""

from autoprune.schedule.criteria import (
    CRITERIA,
    AttentionCriterion,
    CodebookCriterion,
    Criterion,
    DiversityCriterion,
    EncoderCriterion,
    KeepKind,
    PluginCriterion,
    RandomCriterion,
    Reads,
    UniformCriterion,
    parse_criterion,
)
from autoprune.schedule.identity import ModelIdentity
from autoprune.schedule.schedule import Schedule
from autoprune.schedule.stage import Keep, Stage

__all__ = [
    "CRITERIA",
    "AttentionCriterion",
    "CodebookCriterion",
    "Criterion",
    "DiversityCriterion",
    "EncoderCriterion",
    "Keep",
    "KeepKind",
    "ModelIdentity",
    "PluginCriterion",
    "RandomCriterion",
    "Reads",
    "Schedule",
    "Stage",
    "UniformCriterion",
    "parse_criterion",
]
