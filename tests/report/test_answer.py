from __future__ import annotations

from support.fronts import make_front, typed

from autoprune.report.answer import answer
from autoprune.report.choices import choice_rows
from autoprune.report.overview import recommended, tiles


def test_the_worst_task_of_the_recommended_schedule_comes_first():
    front = typed()
    found, point = answer(front, "runs/x"), recommended(front)
    lost = {
        name: front.dense.validation.tasks[name].accuracy - part.accuracy
        for name, part in point.validation.tasks.items()
    }
    assert lost[found.tasks[0].name] == max(lost.values())
    assert found.tasks[0].lost.worst
    assert f"[{found.tasks[0].interval[1:-1]}]" == found.tasks[0].interval
    assert len(found.tasks) + 4 == len(lost)
    assert found.others == "The other 4 tasks lose nothing."
    (worst,) = [tile for tile in tiles(front) if tile.what == "Worst task"]
    assert found.tasks[0].name in worst.beside


def test_few_tasks_are_all_listed():
    found = answer(typed(make_front(tasks=("digit_of", "where", "count"))), "runs/x")
    assert (len(found.tasks), found.others) == (3, "")


def test_it_is_said_that_the_rows_that_chose_a_point_flatter_it():
    front = make_front()
    said = dict(answer(typed(front), "x").certainty)["Choice"]
    pruned = [p for p in front["points"] if p["schedule"]["stages"]]
    gaps = [p["validation"]["drop"] - p["drop"] for p in pruned]
    assert f"lose {100 * sum(gaps) / len(gaps):.1f} points more on average" in said
    assert "winner’s curse" in said
    for point in front["points"]:
        point["validation"] = None
    assert "flatters it" in dict(answer(typed(front), "x").certainty)["Choice"]


def test_the_risk_is_that_of_the_default_export():
    front = typed()
    choices = choice_rows(front)
    said = dict(answer(front, "x", choices).certainty)["Risk"]
    assert f"is {choices[0].cells[3]}. With 95 % confidence" in said
    assert "Risk" not in dict(answer(front, "x").certainty)


def test_a_choice_that_chance_could_have_made_is_called_so():
    front = make_front()
    assert "is better than random" in dict(answer(typed(front), "x").certainty)["Chance"]
    for control in front["controls"]:
        control["mark"] |= {"decided": False, "adjusted_p": 0.3}
    assert "not shown to beat random or even choice" in dict(answer(typed(front), "x").certainty)["Chance"]
    for control in front["controls"]:
        del control["mark"]
    assert "Chance" not in dict(answer(typed(front), "x").certainty)


def test_a_front_without_points_has_no_recommendation():
    front = make_front()
    front["points"] = []
    assert answer(typed(front), "x") is None


def test_a_point_beyond_the_default_loss_is_taken_by_its_number():
    front = make_front()
    found = answer(typed(front), "runs/x")
    assert found.taken == "the cheapest within 1 point of dense"
    assert found.command == "autoprune export runs/x -o schedule.json"
    front["points"] = [p for p in front["points"] if p["validation"]["drop"] > 0.02]
    found = answer(typed(front), "runs/x")
    assert found.taken == "loses least: none is within 1 point of dense"
    assert f"--trial {recommended(typed(front)).trial}" in found.command
