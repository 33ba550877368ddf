from __future__ import annotations

from autoprune.schedule import Schedule


def test_the_recipe_is_a_schedule_for_the_model(cli, tiny, rows, tmp_path):
    target = tmp_path / "recipe.json"
    found = cli("fitprune", tiny, "--data", rows, "--budget", "0.7", "-o", target, "--json").json
    schedule = Schedule.load(target)
    assert found["flops_ratio"] <= 0.7
    assert {str(s.layer): s.keep.ratio for s in schedule.stages} == found["keep"]
    assert schedule.model.num_layers == 6
    assert cli("apply-check", tiny, target).code == 0
    again = cli("fitprune", tiny, "--data", rows, "-o", target)
    assert again.code == 2
    assert "--force" in again.err
    people = cli("fitprune", tiny, "--data", rows, "--budget", "0.7", "-o", target, "--force")
    assert "before layer" in people.out
    assert "of dense" in people.out


def test_a_budget_out_of_range_is_bad_input(cli, tiny, rows, tmp_path):
    result = cli("fitprune", tiny, "--data", rows, "--budget", "1.5", "-o", tmp_path / "r.json")
    assert result.code == 2
    assert "budget" in result.err
    assert list(tmp_path.iterdir()) == []
