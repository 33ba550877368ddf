from autoprune.schedule import Keep, Schedule, Stage, parse_criterion
from autoprune.search.batches import Offer, next_batch

ROWS = (3, 1, 2)


def offer(*stages: tuple[int, float, str], rows: tuple[int, ...] = ROWS, alone: bool = False) -> Offer:
    return Offer(Schedule(stages=tuple(stage(*s) for s in stages)), rows, "probe", alone)


def stage(layer: int, keep: float, criterion: str) -> Stage:
    return Stage(layer=layer, keep=Keep(ratio=keep), criterion=parse_criterion(criterion) if keep else None)


def test_candidates_with_the_same_first_stage_go_together() -> None:
    first = offer((1, 0.5, "text"))
    longer = offer((1, 0.5, "text"), (4, 0.0, ""))
    others = [offer((1, 0.5, "last")), offer((2, 0.5, "text")), offer((1, 0.2, "text"))]
    assert next_batch([first, *others, longer], workers=1) == (first, longer)


def test_withdrawals_go_together_because_each_runs_dense_up_to_it() -> None:
    withdrawals = [offer((layer, 0.0, "")) for layer in range(4)]
    assert next_batch(withdrawals, workers=1) == tuple(withdrawals)


def test_other_rows_and_candidates_that_killed_a_worker_stay_apart() -> None:
    first = offer((1, 0.5, "text"))
    assert next_batch([first, offer((1, 0.5, "text"), (4, 0.0, ""), rows=(1, 2))], workers=1) == (first,)
    assert next_batch([first, offer((1, 0.5, "text"), (4, 0.0, ""), alone=True)], workers=1) == (first,)


def test_every_worker_gets_a_part() -> None:
    withdrawals = [offer((layer, 0.0, "")) for layer in range(6)]
    assert [len(next_batch(withdrawals, workers)) for workers in (1, 2, 4, 6, 9)] == [6, 3, 2, 1, 1]
