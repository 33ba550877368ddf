"""The ablation's figures against plain evaluation of the same schedules, and its grid."""

from __future__ import annotations

import numpy as np
import pytest
from support.scenes import save_rows, save_tiny

from autoprune import Schedule
from autoprune.analysis.ablation import ARMS, Cell, ablate, grid
from autoprune.data.samples import load_samples
from autoprune.errors import DataError
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.results import compare, summarise
from autoprune.models.loading import load_model

CELLS = [Cell(1, 3, 0.5, 0.25), Cell(2, 4, 0.5, 0.1)]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory):
    loaded = load_model(save_tiny(tmp_path_factory.mktemp("tiny")))
    data = load_samples(str(save_rows(tmp_path_factory.mktemp("rows"))))
    seen = []
    found = ablate(loaded, data, CELLS, batch_size=6, on_cell=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)]
    return loaded, data, found


def plain(k1: int, k2: int, keep1: float, keep2: float, first: dict, second: dict) -> Schedule:
    stages = zip((k1, k2), (keep1, keep2), (first, second), strict=True)
    return Schedule(stages=[{"layer": k, "keep": {"ratio": r}, "criterion": c} for k, r, c in stages])


def test_every_row_is_what_the_evaluator_finds(setting) -> None:
    loaded, data, found = setting
    evaluator = Evaluator(loaded, data, batch_size=6, max_new_tokens=32)
    dense = evaluator.dense()
    assert found.dense.mean == summarise(dense).accuracy
    text, visual = {"name": "attention", "rows": "text"}, {"name": "attention", "rows": "visual"}
    last = {"name": "attention", "rows": "last"}
    draws = [({"name": "random", "seed": seed},) * 2 for seed in range(3)]
    arms = {
        "himap": [(text, visual)],
        "swapped": [(visual, text)],
        "text": [(text, text)],
        "visual": [(visual, visual)],
        "last": [(last, last)],
        "random": draws,
        "uniform": [({"name": "uniform"},) * 2],
    }
    assert [(r.cell, r.arm) for r in found.rows] == [(c, arm) for c in CELLS for arm in ARMS]
    for r in found.rows:
        c = r.cell
        results = [evaluator.evaluate(plain(c.k1, c.k2, c.keep1, c.keep2, *pair)) for pair in arms[r.arm]]
        accuracy = np.mean([summarise(found).accuracy for found in results])
        drop = np.mean([compare(dense, found).overall.mean for found in results])
        assert r.accuracy.mean == pytest.approx(accuracy)
        assert r.drop.mean == pytest.approx(drop)
        assert r.flops_ratio == pytest.approx(np.mean([summarise(found).flops_ratio for found in results]))
        assert r.accuracy.low <= r.accuracy.mean <= r.accuracy.high
        himap = next(o for o in found.rows if o.cell == c and o.arm == "himap")
        assert r.behind.mean == pytest.approx(himap.accuracy.mean - accuracy)
    for arm in ARMS:
        own = [r for r in found.rows if r.arm == arm]
        assert found.arms[arm].mean == pytest.approx(np.mean([r.accuracy.mean for r in own]))
        assert found.behind[arm].mean == pytest.approx(np.mean([r.behind.mean for r in own]))
    for layer, leads in found.behind_at.items():
        for arm, lead in leads.items():
            own = [r.behind.mean for r in found.rows if r.arm == arm and r.cell.k1 == layer]
            assert lead.mean == pytest.approx(np.mean(own))
    assert found.factors["k1"][2].mean == pytest.approx(found.rows[len(ARMS)].accuracy.mean)


def test_the_default_grid_is_the_published_one_mapped_to_the_depth() -> None:
    cells = grid(32, (), (), (), ())
    assert Cell(2, 8, 0.5, 0.125) in cells
    assert len(cells) == 16
    assert all(c.k1 < c.k2 < 12 for c in grid(12, (), (), (), ()))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (((0,), (), (), ()), "k1"),
        (((), (12,), (), ()), "k2"),
        (((), (), (1.5,), ()), "keep1"),
        (((5,), (3,), (), ()), "k1, k2"),
    ],
)
def test_impossible_settings_are_refused(given: tuple, field: str) -> None:
    with pytest.raises(DataError) as caught:
        grid(12, *given)
    assert caught.value.field == field


def test_rows_of_one_image_give_no_interval(setting) -> None:
    loaded, data, _ = setting
    one = load_samples(data.name, samples=1)
    with pytest.raises(DataError, match="2 groups"):
        ablate(loaded, one, CELLS)
