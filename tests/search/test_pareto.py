from hypothesis import given
from hypothesis import strategies as st

from autoprune.search.pareto import dominates, non_dominated

# Few distinct values, so that ties and equal points are common.
VALUE = st.integers(0, 4).map(float)


@given(st.integers(1, 3).flatmap(lambda n: st.lists(st.tuples(*[VALUE] * n), max_size=25)))
def test_equals_brute_force(points: list[tuple[float, ...]]) -> None:
    def beaten(b: tuple[float, ...]) -> bool:
        return any(all(x <= y for x, y in zip(a, b, strict=True)) and a != b for a in points)

    assert non_dominated(points) == [i for i, p in enumerate(points) if not beaten(p)]


def test_equal_points_do_not_dominate_each_other() -> None:
    assert not dominates((1.0, 2.0), (1.0, 2.0))
    assert non_dominated([(1.0, 2.0), (1.0, 2.0), (1.0, 3.0)]) == [0, 1]
