"""Pareto dominance: the points that no other equals in everything and beats in something."""

from __future__ import annotations

from collections.abc import Sequence

Point = Sequence[float]


def dominates(a: Point, b: Point) -> bool:
    """Whether `a` is at least as good as `b` in every objective and better in one; all objectives are minimised."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def non_dominated(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other dominates, in their order; equal points stay or go together.

    All objectives are minimised.
    """
    # After sorting, a point can only be dominated by one before it, and then also by one of the front so far.
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: tuple(points[i])):
        if not any(dominates(points[j], points[i]) for j in front):
            front.append(i)
    return sorted(front)


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Area between a front and a reference point; two objectives, both minimised.

    Args:
        points: Any points; dominated ones, and those beyond the reference, add nothing.
        reference: Worst values that still count.
    """
    within = [p for p in points if p[0] < reference[0] and p[1] < reference[1]]
    area, height = 0.0, reference[1]
    for cost, loss in sorted((within[i][0], within[i][1]) for i in non_dominated(within)):
        area += (reference[0] - cost) * max(0.0, height - loss)
        height = min(height, loss)
    return area
