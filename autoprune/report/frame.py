"""What the page's chart and the picture share: where points stand, what is in the frame, where names go."""

from __future__ import annotations

from autoprune.report.reading import Front, Point, flops_of, held_out, pruned_points, quality_of
from autoprune.report.words import quality_value

BELOW = 0.35
"""Points that lose more than this against the best start outside the frame: a front is read near dense."""


def height_of(front: Front, point: Point) -> float | None:
    """Where a point stands on the quality axis."""
    value = held_out(point).get(quality_of(front).key)
    return None if value is None else float(value)


def visible_range(front: Front, named: list[Point]) -> tuple[float, float, int]:
    """Bottom and top of the quality axis, and how many named points lie below the bottom."""
    heights = [h for p in named if (h := height_of(front, p)) is not None] or [0.0, 1.0]
    if not quality_of(front).more_is_better:
        return -0.02, max(h for p in pruned_points(front) if (h := height_of(front, p)) is not None) * 1.1, 0
    floor = max(min(heights), max(heights) - BELOW) - 0.035
    tops = [(held_out(p).get("accuracy_ci") or (0.0, 0.0))[1] for p in named]
    return floor, min(max(*heights, *tops) + 0.015, 1.012), sum(h < floor for h in heights)


def below_frame(front: Front, presets: list[Point], low: float) -> list[tuple[float, str]]:
    """Where to say, at the bottom edge, which published methods lie below it, and how far: their cost and a text."""
    key = quality_of(front).key
    cut = [(flops_of(p), height_of(front, p), str(p["name"])) for p in presets]
    return [(x, f"▼ {name} {quality_value(key, y, digits=0)}") for x, y, name in cut if y is not None and y < low]


def label_sides(places: list[tuple[float, float]]) -> list[str]:
    """A side for each name so that names of close neighbours do not cover each other."""
    sides = {
        "bottom right": (0.08, -0.02),
        "top left": (-0.08, 0.02),
        "bottom left": (-0.08, -0.02),
        "top right": (0.08, 0.02),
    }
    taken: list[tuple[float, float]] = list(places)
    chosen = []
    for x, y in places:
        # A name is wide and flat: a vertical distance counts more than the same distance along the line.
        room = {
            side: min((x + dx - a) ** 2 + (4 * (y + dy - b)) ** 2 for a, b in taken if (a, b) != (x, y))
            if len(taken) > 1
            else 0.0
            for side, (dx, dy) in sides.items()
        }
        best = max(room, key=lambda side: room[side])
        chosen.append(best)
        taken.append((x + sides[best][0], y + sides[best][1]))
    return chosen
