from collections import Counter

import pytest

from autoprune import presets
from autoprune.schedule import parse_criterion
from autoprune.search.initial import InitialSchedule, baseline, initial_schedules
from autoprune.search.sections import Space
from autoprune.search.space import SearchSpace

DEFAULT = SearchSpace.of(Space(), 12)
CODEBOOK = parse_criterion({"name": "codebook", "path": "prototypes.safetensors", "sha256": "0" * 64, "prototypes": 4})


def probes(found: list[InitialSchedule]) -> list[InitialSchedule]:
    return [o for o in found if o.origin == "probe"]


def test_initial_schedules_start_where_the_literature_ends() -> None:
    baselines = [baseline(name, 12) for name in presets.NAMES]
    found = initial_schedules(baselines, DEFAULT, 12)
    assert [o.name for o in found if o.origin == "baseline"] == [name for name in presets.NAMES if name != "dense"]
    keys = [o.schedule.key for o in found]
    assert len(set(keys)) == len(keys)
    withdrawals = {
        o.schedule.stages[0].layer for o in found if len(o.schedule.stages) == 1 and o.schedule.stages[0].withdraws
    }
    assert withdrawals == set(range(12))
    assert 35 <= len(found) <= 62


def test_probes_look_at_every_method_and_at_every_depth() -> None:
    stages = [o.schedule.stages[0] for o in probes(initial_schedules([], DEFAULT, 12))]
    tried = Counter((s.criterion.label if s.criterion else "", s.merge) for s in stages)
    assert set(tried) == {(m.criterion.label, "mean" if m.merge else None) for m in DEFAULT.methods.values()}
    assert all(count == 1 for (_, merge), count in tried.items() if merge), "one probe of each method that merges"
    assert {s.layer for s in stages} >= {0, 1, 4}
    assert {s.keep.ratio for s in stages} == {0.05, 0.2}


def test_few_methods_are_probed_at_all_places() -> None:
    space = SearchSpace.of(Space(criteria=("last", "text")), 12)
    stages = [o.schedule.stages[0] for o in probes(initial_schedules([], space, 12))]
    places = [(s.criterion and s.criterion.label, s.layer, s.keep.ratio) for s in stages]
    assert set(places) == {(c, k, r) for c in ("last", "text") for k in (1, 2, 4, 8) for r in (0.05, 0.2)}


@pytest.mark.parametrize(
    "space",
    [Space(merge=(True,)), Space(also=(CODEBOOK,)), Space(mass=(0.5, 0.9)), Space(keep=(0.0, 0.3)), Space(layers=(5,))],
    ids=["merging only", "codebook", "mass", "one keep", "one layer"],
)
def test_probes_are_of_the_space(space: Space) -> None:
    made = SearchSpace.of(space, 12)
    found = probes(initial_schedules([], made, 12))
    assert all(made.holds(o.schedule) for o in found)
    served = {label for label, m in made.methods.items() if any(m.serves(k) for k in made.layers)}
    probed = {c.label for o in found for s in o.schedule.stages if (c := s.criterion)}
    assert probed == {made.methods[label].criterion.label for label in served}
    kinds = {s.keep.kind for o in found for s in o.schedule.stages}
    assert kinds == ({"ratio", "mass"} if space.mass else {"ratio"})


def test_a_space_of_withdrawals_has_no_probes() -> None:
    assert probes(initial_schedules([], SearchSpace.of(Space(keep=(0.0,)), 12), 12)) == []
