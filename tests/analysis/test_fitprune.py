"""FitPrune's recipe: the tokens that both lists rank low leave, and the FLOPs budget is met and used."""

from __future__ import annotations

import pytest
import torch
from support.evidence import check_evidence
from support.scenes import save_rows, save_tiny
from support.zoo import internvl, llava, qwen2_5_vl
from torch import Tensor

import autoprune
from autoprune.analysis.fitprune import CRITERION, Statistics, attention_statistics, fit_recipe, kept_after
from autoprune.data.samples import load_samples
from autoprune.errors import DataError
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.results import summarise
from autoprune.models.loading import load_model


def slow(cross: list[list[float]], own: list[list[float]], alpha: float) -> list[int]:
    """The paper's loop, token by token."""
    alive, left = set(range(len(cross[0]))), []
    for scores in zip(cross, own, strict=True):
        prefixes = []
        for values in scores:
            lost = sum(v for j, v in enumerate(values) if j not in alive)
            prefix = set()
            for j in sorted(alive, key=lambda j, v=values: v[j]):
                lost += values[j]
                if lost > alpha * sum(values):
                    break
                prefix.add(j)
            prefixes.append(prefix)
        leaving = prefixes[0] & prefixes[1]
        if leaving == alive:
            leaving -= {max(alive, key=lambda j, v=scores[0]: v[j])}
        alive -= leaving
        left.append(len(alive))
    return left


@pytest.mark.parametrize("alpha", [0.0, 0.02, 0.1, 0.3, 0.7, 1.0])
def test_counts_are_those_of_the_slow_loop(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        return torch.rand(6, 40, generator=generator).double() ** 4

    for _ in range(10):
        cross, own = draw(), draw()
        assert kept_after(Statistics(cross, own), alpha) == slow(cross.tolist(), own.tolist(), alpha)


@pytest.mark.parametrize("family", [llava, qwen2_5_vl, internvl])
def test_statistics_are_those_of_the_models_own_maps(family) -> None:
    zoo = family([[0]])
    found, visual = attention_statistics(zoo.model, zoo.inputs, [1, 3, 5])
    assert torch.equal(visual, zoo.visual)
    zoo.model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = zoo.model(**zoo.inputs, output_attentions=True).attentions
    seen = visual[0].nonzero()[:, 0].tolist()
    words = [i for i in range(visual.shape[1]) if i > seen[0] and i not in seen]
    for row, k in enumerate((1, 3, 5)):
        over = maps[k - 1][0].amax(0)
        torch.testing.assert_close(found.cross[row], over[words][:, seen].mean(0), atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(found.own[row], over[seen][:, seen].mean(0), atol=1e-6, rtol=1e-4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    loaded = load_model(save_tiny(tmp_path_factory.mktemp("tiny")))
    return loaded, load_samples(str(save_rows(tmp_path_factory.mktemp("rows"))))


@pytest.mark.parametrize("budget", [0.5, 0.8])
def test_the_recipe_spends_the_budget_and_runs(tiny, budget: float) -> None:
    loaded, data = tiny
    seen = []
    recipe = fit_recipe(loaded, data, budget=budget, on_sample=lambda done, total: seen.append((done, total)))
    assert budget - 0.05 < recipe.flops_ratio <= budget
    assert seen == [(i, len(data)) for i in range(1, len(data) + 1)]
    assert [s.layer for s in recipe.schedule.stages] == list(recipe.keep)
    assert all(stage.criterion == CRITERION for stage in recipe.schedule.stages)
    # What it says it costs is what the evaluator finds when it runs.
    evaluator = Evaluator(loaded, data, batch_size=4, max_new_tokens=2)
    assert summarise(evaluator.evaluate(recipe.schedule)).flops_ratio == pytest.approx(recipe.flops_ratio, abs=1e-9)
    with autoprune.apply(loaded.model, recipe.schedule):
        pass
    check_evidence(recipe.schedule, "autoprune fitprune", loaded, data)


@pytest.mark.parametrize("budget", [0.0, 1.0, -1.0])
def test_a_budget_out_of_range(tiny, budget: float) -> None:
    with pytest.raises(DataError, match="budget"):
        fit_recipe(*tiny, budget=budget)


def test_a_budget_that_no_recipe_meets(tiny) -> None:
    with pytest.raises(DataError, match="at least 0"):
        fit_recipe(*tiny, budget=0.01)
