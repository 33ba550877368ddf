from autoprune.search.initial import baseline, initial_schedules
from autoprune.search.sections import Space
from autoprune.search.space import SearchSpace

DEFAULT = SearchSpace.of(Space(), 10)


def test_initial_schedules_start_where_the_literature_ends() -> None:
    baselines = [baseline(name, 10) for name in ("vtw", "fastv", "himap", "pyramiddrop")]
    found = initial_schedules(baselines, DEFAULT, 10)
    assert [o.name for o in found[:4]] == ["vtw", "fastv", "himap", "pyramiddrop"]
    keys = [o.schedule.key for o in found]
    assert len(set(keys)) == len(keys)
    withdrawals = {
        o.schedule.stages[0].layer for o in found if len(o.schedule.stages) == 1 and o.schedule.stages[0].withdraws
    }
    assert withdrawals == set(range(10))
    probes = [o.schedule.stages[0] for o in found if o.origin == "probe"]
    assert {s.criterion for s in probes} == set(DEFAULT.criteria)
