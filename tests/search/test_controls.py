from autoprune import presets
from autoprune.schedule import Schedule
from autoprune.search.controls import control_arms


def test_same_layers_and_counts_with_other_choices() -> None:
    schedule = presets.himap(layers=(2, 5), keep=(0.5, 0.125))
    arms = control_arms(schedule)
    assert list(arms) == ["random-0", "random-1", "random-2", "uniform"]
    for arm in arms.values():
        assert [(s.layer, s.keep) for s in arm.stages] == [(s.layer, s.keep) for s in schedule.stages]
    names = [[s.criterion.name for s in arm.stages if s.criterion] for arm in arms.values()]
    assert names == [["random", "random"]] * 3 + [["uniform", "uniform"]]
    assert len({arm.key for arm in arms.values()}) == 4


def test_withdrawals_in_an_arm_stay_withdrawals() -> None:
    stages = [*presets.fastv().to_json_dict()["stages"], {"layer": 6, "keep": {"ratio": 0.0}}]
    arms = control_arms(Schedule.model_validate({"stages": stages}))
    assert all(arm.stages[1].withdraws for arm in arms.values())


def test_what_chooses_nothing_has_no_arms() -> None:
    assert control_arms(presets.vtw(3)) == {}
    assert control_arms(presets.dense()) == {}


def test_counts_that_depend_on_scores_have_no_arms() -> None:
    stage = {"layer": 2, "keep": {"mass": 0.9}, "criterion": {"name": "attention", "rows": "text"}}
    assert control_arms(Schedule.model_validate({"stages": [stage]})) == {}
