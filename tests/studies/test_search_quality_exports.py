"""What studies/search_quality/exports.py counts on validation sets that are drawn again."""

from __future__ import annotations

import json

import exports
import numpy as np
import pytest
from support.losses import DROPS, FLOPS, front_losses

from autoprune.schedule import Schedule
from autoprune.search.verdicts import pack


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> exports.Fresh:
    """A made-up front on 3,200 rows of 1,600 scenes, as `measure` writes it."""
    losses = front_losses(np.random.default_rng(0), 1600)
    points = [
        {
            "name": f"trial {n}",
            "flops_ratio": float(FLOPS[n]),
            "accuracy": 1 - float(DROPS[n]) - n * 1e-4,
            "schedule": {"stages": [{"layer": n, "keep": {"ratio": 0.0}}]},
        }
        for n in range(len(FLOPS))
    ]
    right = losses <= 0
    verdicts = {
        "groups": np.repeat(np.arange(1600), 2).tolist(),
        "tasks": [None] * 3200,
        "dense": pack(np.ones(3200)),
        "points": {
            Schedule.model_validate(p["schedule"]).key: pack(right[:, n]) for n, p in enumerate(points)
        },
    }  # fmt: skip
    path = tmp_path_factory.mktemp("fresh") / "fresh.json"
    path.write_text(json.dumps({"anchors": points[:1], "points": points[:0:-1], "verdicts": verdicts}))
    return exports.Fresh.load(path)


def test_a_front_is_read_in_the_order_of_its_tests(fresh: exports.Fresh):
    assert fresh.flops.tolist() == sorted(FLOPS.tolist(), reverse=True)
    assert fresh.names[0] == "trial 0"
    assert fresh.losses.shape == (3200, len(FLOPS))
    assert fresh.scenes.shape == (1600, 2)


def test_scenes_are_drawn_whole(fresh: exports.Fresh):
    losses, groups = fresh.draw(np.random.default_rng(0), 512)
    assert losses.shape == (512, len(FLOPS))
    assert groups[:4] == [0, 0, 1, 1]
    assert losses.mean(0) == pytest.approx(fresh.drops, abs=0.06)


def test_promises_break_seldom_and_corrected_claims_are_nearer_the_truth(fresh: exports.Fresh):
    found = exports.redraw(fresh, draws=30, bounds=(0.02, 0.05))
    assert found.covered.mean() == pytest.approx(0.95, abs=0.06)
    for bound in (0.02, 0.05):
        plain, sure = found.estimates[bound], found.promises[bound]
        assert sum(sure.broken) <= 2
        assert np.mean(sure.flops) > np.mean(plain.flops)
        assert abs(np.mean(plain.corrected)) < abs(np.mean(plain.raw))
    told = exports.table(found, 30)
    assert told.count("\n| 0.0") == 4
    assert "95% confidence" in told
