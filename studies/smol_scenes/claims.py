"""What the papers claim, and what the held-out rows say of it; each rule was written before anything was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from judging import MARGIN, Finding, Results, costs_nothing, is_better, is_no_worse, keeps, lost
from judging import verdict as judged
from measured import HeldOut
from tradeoff import SEEDS, one_stage, percent, table

from autoprune import Schedule, presets
from autoprune.evaluate.results import summarise

LONG = ("colors", "ascending", "caption")
"""Types whose answers have several words."""
_MOST_FLOPS, _SAME_LAYER, _ENOUGH, _TOO_FEW = 0.6, 1, 0.95, 0.8
_SHALLOW, _DEEP = range(3), range(8, 16)  # of 30, where HiMAP names the first 3 and 8 to 16 of 32

Row = tuple[str, str, Finding]
"""Method, claim, finding."""


def claims(study: HeldOut) -> str:
    """Markdown: every claim with its figure and whether it holds."""
    found: list[Row] = []
    for part in (_vtw, _fastv, _himap, _divprune, _codebook):
        found += part(study)
    return table(["method", "claim", "figure", "here"], [[m, c, f.figure, f.verdict] for m, c, f in found])


def _vtw(study: HeldOut) -> list[Row]:
    half, swept = study.depth // 2, study.read("sweep.json")
    (taken,) = swept["taken"]["all"]["vtw-compat"]
    layers = [*study.withdrawals, half if taken == "none" else int(taken)]
    dense, *withdrawn, ruled = study.measure([presets.dense(), *map(presets.vtw, layers)])
    middle = withdrawn[study.withdrawals.index(half)]
    rule = Finding("takes no layer", "does not hold")
    if taken != "none":
        found = costs_nothing(dense, ruled)
        rule = Finding(f"takes layer {taken}, which {found.figure}", found.verdict)
    return [
        ("VTW", f"withdrawal before the middle layer ({half}) costs nothing", costs_nothing(dense, middle)),
        ("VTW", "the first layer with KL ≤ 0.003 at the first token costs nothing", rule),
        ("VTW", "20 rows are enough to find that layer", same_layer(swept["taken"]["20"]["vtw-compat"], taken)),
        ("VTW", "over 40 % of the FLOPs can be saved for nothing", _saved(dense, withdrawn)),
    ]


def same_layer(draws: dict[str, int], taken: str) -> Finding:
    """Whether draws of few rows take the layer of all rows, or the next one."""
    near = {taken} if taken == "none" else {str(int(taken) + step) for step in (-_SAME_LAYER, 0, _SAME_LAYER)}
    share = sum(count for layer, count in draws.items() if layer in near) / sum(draws.values())
    span = sorted(draws, key=lambda layer: (layer == "none", int(layer) if layer != "none" else 0))
    figure = f"{share:.0%} of {sum(draws.values())} draws are within a layer of it; they take {span[0]} to {span[-1]}"
    return Finding(figure, judged(share >= _ENOUGH, share < _TOO_FEW))


def _saved(dense: Results, withdrawn: Sequence[Results]) -> Finding:
    """The cheapest withdrawal from which on no deeper one surely loses, and from which on all surely lose nothing."""
    losses = [lost(dense, results) for results in withdrawn]

    def first(fine: Callable[[Any], bool]) -> float:
        k = len(losses)
        while k and fine(losses[k - 1]):
            k -= 1
        return summarise(withdrawn[k]).flops_ratio if k < len(losses) else 1.0

    sure, possible = first(lambda loss: loss.high <= MARGIN), first(lambda loss: loss.low <= MARGIN)
    figure = f"{percent(sure)} % of the FLOPs surely lose nothing, {percent(possible)} % perhaps"
    return Finding(figure, judged(sure <= _MOST_FLOPS, possible > _MOST_FLOPS))


def _fastv(study: HeldOut) -> list[Row]:
    published = presets.for_depth("fastv", study.depth)
    layer, keep = published.stages[0].layer, published.stages[0].keep.value
    chance = [one_stage(layer, keep, "random", str(seed)) for seed in SEEDS]
    few = [one_stage(layer, 0.1, "last"), *(one_stage(layer, 0.1, "random", str(seed)) for seed in SEEDS)]
    dense, fastv, *rest = study.measure([presets.dense(), published, *chance, *few])
    same, last, random = rest[: len(SEEDS)], rest[len(SEEDS)], rest[len(SEEDS) + 1 :]
    return [
        ("FastV", f"half of the tokens can leave before layer {layer} for nothing", costs_nothing(dense, fastv)),
        ("FastV", "the last token's attention chooses that half better than chance", is_better([fastv], same)),
        ("FastV", "and a tenth of them", is_better([last], random)),
    ]


def _himap(study: HeldOut) -> list[Row]:
    short, long, one = (presets.for_depth(name, study.depth) for name in ("himap", "himap_generative", "fastv"))
    twice = [_text_twice(schedule) for schedule in (short, long)]
    dense, himap, generative, fastv, *text = study.measure([presets.dense(), short, long, one, *twice])
    share = study.read("flow.json")["flows"]["share"]
    near, far = (" and ".join(str(stage.layer) for stage in schedule.stages) for schedule in (short, long))
    to_text, to_image = share["visual_to_text"], share["visual_to_visual"]
    return [
        (
            "HiMAP",
            "in the first 3 layers text reads the image more than the image itself",
            above(to_text, to_image, _SHALLOW),
        ),
        ("HiMAP", "in layers 8 to 15 the image reads itself more than text does", above(to_image, to_text, _DEEP)),
        (
            "HiMAP",
            "the second stage is better chosen by image rows than by text rows",
            is_better([himap, generative], text),
        ),
        (
            "HiMAP",
            f"stages before layers {near} cost nothing in short answers",
            costs_nothing(*_of(dense, himap, long=False)),
        ),
        (
            "HiMAP",
            f"stages before layers {far} cost nothing in long answers",
            costs_nothing(*_of(dense, generative, long=True)),
        ),
        ("HiMAP", "is as good as FastV at fewer FLOPs", is_no_worse([himap], [fastv])),
    ]


def _text_twice(himap: Schedule) -> Schedule:
    """HiMAP with the text voting in both stages."""
    first, second = himap.stages
    return Schedule(stages=(first, second.model_copy(update={"criterion": first.criterion})))


def above(upper: dict[str, list[float]], lower: dict[str, list[float]], layers: range) -> Finding:
    """Whether one curve lies above another in most of these layers, with intervals that do not meet."""
    over = sum(upper["low"][k] > lower["high"][k] for k in layers)
    under = sum(lower["low"][k] > upper["high"][k] for k in layers)
    figure = f"surely so in {over} of {len(layers)} layers, surely not in {under}"
    return Finding(figure, judged(2 * over > len(layers), 2 * under > len(layers)))


def _of(dense: Results, pruned: Results, *, long: bool) -> tuple[Results, Results]:
    """The rows with long answers, or the others."""
    dense, pruned = ([r for r in results if (r.task in LONG) == long] for results in (dense, pruned))
    return dense, pruned


def _divprune(study: HeldOut) -> list[Row]:
    arms: list[Schedule] = [presets.dense(), presets.for_depth("divprune", study.depth), one_stage(0, 0.1, "diversity")]
    arms += [one_stage(2, 0.1, "last"), *(one_stage(0, 0.1, "random", str(seed)) for seed in SEEDS)]
    dense, divprune, tenth, attention, *chance = study.measure(arms)
    return [
        (
            "DivPrune",
            "a tenth of the tokens before the decoder keeps 90 % of the accuracy",
            keeps(dense, divprune, 0.9),
        ),
        ("DivPrune", "diversity is better than chance", is_better([tenth], chance)),
        ("DivPrune", "and than FastV's attention that keeps as many", is_better([tenth], [attention])),
    ]


def _codebook(study: HeldOut) -> list[Row]:
    def by(keep: float, name: str, seed: int = 0) -> Schedule:
        if name != "codebook":
            return one_stage(0, keep, name, str(seed))
        stage = {"layer": 0, "keep": {"ratio": keep}, "criterion": study.book.model_dump()}
        return Schedule.model_validate({"stages": [stage]})

    arms = [by(0.2, "codebook"), by(0.1, "codebook"), by(0.2, "diversity")]
    arms += [by(0.2, "random", seed) for seed in SEEDS]
    dense, fifth, tenth, diversity, *chance = study.measure([presets.dense(), *arms])
    return [
        ("codebook", "80 % of the tokens can go before the decoder and 90 % is left", keeps(dense, fifth, 0.9)),
        ("codebook", "90 % of them", keeps(dense, tenth, 0.9)),
        ("codebook", "it chooses better than chance", is_better([fifth], chance)),
        ("codebook", "it is better than diversity, which needs no data", is_better([fifth], [diversity])),
    ]
