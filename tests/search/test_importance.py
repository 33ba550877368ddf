import random

from autoprune.schedule import Keep, Schedule, Stage, parse_criterion
from autoprune.search.importance import LEAST_TRIALS, importances


def schedules(count: int) -> list[Schedule]:
    rng = random.Random(0)
    criteria = [parse_criterion(name) for name in ("last", "text")]
    tried = []
    for _ in range(count):
        keep, criterion = Keep(ratio=rng.choice((0.1, 0.5, 0.9))), rng.choice(criteria)
        tried.append(Schedule(stages=(Stage(layer=rng.randint(1, 7), keep=keep, criterion=criterion),)))
    return tried


def test_the_feature_that_decides_comes_first() -> None:
    tried = schedules(80)
    layers = [float(s.stages[0].layer) for s in tried]
    texts = [float(s.stages[0].criterion == parse_criterion("text")) for s in tried]
    found = importances(["flops", "accuracy"], ["minimize", "maximize"], tried, list(zip(layers, texts, strict=True)))
    assert max(found["flops"], key=lambda k: found["flops"][k]) in ("first layer", "last layer")  # the same here
    assert max(found["accuracy"], key=lambda k: found["accuracy"][k]) == "first criterion"


def test_few_trials_give_none() -> None:
    tried = schedules(LEAST_TRIALS - 1)
    assert importances(["flops"], ["minimize"], tried, [[0.5]] * len(tried)) == {}


def test_merging_is_a_method_of_its_own() -> None:
    rng, tried = random.Random(0), []
    for _ in range(60):
        stage = Stage(
            layer=rng.randint(1, 7),
            keep=Keep(ratio=0.5),
            criterion=parse_criterion("text"),
            merge=rng.choice((None, "mean")),
        )
        tried.append(Schedule(stages=(stage,)))
    found = importances(["kl"], ["minimize"], tried, [[float(s.stages[0].merge is None)] for s in tried])
    assert max(found["kl"], key=lambda k: found["kl"][k]) == "first criterion"
