"""A schedule with fixed counts: how many visual tokens every stage leaves, for prompts with a fixed number of them."""

from __future__ import annotations

from typing import NamedTuple

from autoprune.schedule import Schedule, Stage


class Step(NamedTuple):
    """A stage that drops something.

    Attributes:
        stage: The stage.
        before: Visual tokens alive before it.
        after: Visual tokens that it leaves.
    """

    stage: Stage
    before: int
    after: int


def steps_of(schedule: Schedule, n_visual: int) -> tuple[Step, ...]:
    """The stages that drop something of a prompt with `n_visual` visual tokens."""
    steps, alive = [], n_visual
    for stage in schedule.stages:
        left = stage.keep.target(n_visual, alive)
        if left < alive:
            steps.append(Step(stage, alive, left))
        alive = left
    return tuple(steps)


def visual_alive(steps: tuple[Step, ...], n_visual: int, layers: int) -> list[int]:
    """Visual tokens that each decoder layer sees."""
    left = {step.stage.layer: step.after for step in steps}
    alive = [n_visual]
    for i in range(layers):
        alive.append(left.get(i, alive[-1]))
    return alive[1:]
