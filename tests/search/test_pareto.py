from hypothesis import given
from hypothesis import strategies as st

from autoprune.search.pareto import dominates, hypervolume, non_dominated

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


@given(st.lists(st.tuples(VALUE, VALUE), max_size=12), st.tuples(VALUE, VALUE))
def test_hypervolume_counts_the_cells_that_some_point_dominates(
    points: list[tuple[float, float]], reference: tuple[float, float]
) -> None:
    cells = [(x + 0.5, y + 0.5) for x in range(5) for y in range(5)]
    inside = [c for c in cells if c[0] < reference[0] and c[1] < reference[1]]
    assert hypervolume(points, reference) == sum(any(p[0] < x and p[1] < y for p in points) for x, y in inside)
