"""Schedules that differ from a given one in one thing, so that the difference in time is the price of that thing."""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.schedule import Keep, Schedule, Stage, UniformCriterion


def evenly_chosen(schedule: Schedule, left: Sequence[int]) -> Schedule:
    """The same layers and counts without scoring: survivors are evenly spaced.

    Args:
        schedule: What is timed.
        left: Visual tokens after each of its stages.
    """
    stages = [
        Stage(layer=stage.layer, keep=Keep(count=count), criterion=UniformCriterion(name="uniform"))
        if stage.selects
        else stage
        for stage, count in zip(schedule.stages, left, strict=True)
    ]
    return Schedule(stages=tuple(stages), positions=schedule.positions)


def keeping_all(schedule: Schedule, visual_tokens: int) -> Schedule:
    """The same layers and criteria, every score computed and every choice made, but all tokens are chosen."""
    stages = [
        Stage(layer=stage.layer, keep=Keep(count=visual_tokens), criterion=stage.criterion)
        if stage.selects
        else Stage(layer=stage.layer, keep=Keep(ratio=1.0))
        for stage in schedule.stages
    ]
    return Schedule(stages=tuple(stages), positions=schedule.positions)
