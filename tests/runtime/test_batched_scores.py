"""Scores of a batch: the tokens kept are those of each row alone, and nothing waits for the device row by row."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from support.schedules import WITHDRAW, attention, schedule
from support.syncs import counted_operators, counted_syncs
from support.zoo import FAMILIES, Zoo
from torch import Tensor

import autoprune
from autoprune import Schedule, presets
from autoprune.runtime.criteria import ScoreInputs, behaviour_of
from autoprune.runtime.criteria.attention import rater_rows, text_rows
from autoprune.runtime.survivors import choose, merged
from autoprune.schedule import CRITERIA as TABLE
from autoprune.schedule import parse_criterion
from autoprune.schedule.criteria import SHORT_NAMES

CRITERIA: dict[str, Any] = {
    **SHORT_NAMES,
    "text, most of a head": attention("text", heads="max"),
    "visual by mean": attention("visual", reduce="mean"),
    "all, causal": attention("all", normalize="causal"),
    "text and image": attention("text", combine="visual"),
    "random": {"name": "random", "seed": 5},
    "codebook": {"name": "codebook", "path": "none", "sha256": "none"},
}
"""Criteria by their short names, and with options that no short name stands for."""
BATCHES = 100
HEADS, WIDTH = 4, 16


def sample(generator: torch.Generator) -> dict[str, Tensor]:
    """One row: words, then an image with tokens that are the same to the bit, then words; some tokens are gone."""
    before, image, after = (int(torch.randint(low, 24, (), generator=generator)) for low in (0, 2, 1))
    length = before + image + after
    twin = torch.arange(length)
    copies, originals = torch.randint(0, image, (2, image // 2), generator=generator) + before
    twin[copies] = originals
    visual = (torch.arange(length) >= before) & (torch.arange(length) < before + image)
    gone = visual & (torch.rand(length, generator=generator) < 0.2)
    gone[before] = False
    made = {
        name: torch.randn(*shape, generator=generator)[..., twin, :]
        for name, shape in {
            "hidden": (length, WIDTH),
            "query": (HEADS, length, 8),
            "key": (HEADS // 2, length, 8),
        }.items()
    }
    tower = torch.rand(length, generator=generator)[twin]
    return {**made, "tower": tower, "visual": visual, "alive": ~gone}


def inputs_of(
    rows: list[dict[str, Tensor]], options: Any, prototypes: Tensor, left: bool, share: float = 0.3
) -> ScoreInputs:
    """Rows as one padded batch, of whose candidates a share is to be kept, at least one."""
    width = max(len(row["visual"]) for row in rows)

    def padded(name: str, axis: int, fill: float) -> Tensor:
        parts = []
        for row in rows:
            value = row[name]
            shape = list(value.shape)
            shape[axis] = width - shape[axis]
            extra = torch.full(shape, fill, dtype=value.dtype)
            parts.append(torch.cat([extra, value] if left else [value, extra], axis))
        return torch.stack(parts)

    visual, alive = padded("visual", 0, False), padded("alive", 0, False)
    lengths = torch.tensor([[len(row["visual"])] for row in rows])
    columns = torch.arange(width)[None]
    valid = columns >= width - lengths if left else columns < lengths
    text, candidates = text_rows(valid, visual), visual & alive
    counts = {
        name: tuple(mask.sum(1).tolist())
        for name, mask in {"n_visual": visual, "n_text": text, "n_prompt": valid, "n_candidates": candidates}.items()
    }
    targets = tuple(max(1, int(n * share)) for n in counts["n_candidates"])
    hidden = padded("hidden", 0, 0.5)
    return ScoreInputs(
        options=options,
        candidates=candidates,
        visual=visual,
        prompt=valid,
        alive=alive & valid,
        last=valid & (valid.flip(1).cumsum(1).flip(1) == 1),
        targets=torch.tensor(targets),
        n_targets=targets,
        hidden=hidden,
        query=padded("query", 1, 0.5),
        key=padded("key", 1, 0.5),
        mask=((columns[:, :, None] >= columns[:, None]) & alive[:, None] & valid[:, None])[:, None],
        tower=padded("tower", 0, 0.5),
        raters=rater_rows(hidden, visual, text, max(counts["n_visual"]), max(counts["n_text"])),
        prepared=prototypes,
        **counts,
    )


def kept(inputs: ScoreInputs) -> list[list[int]]:
    """Places of the tokens kept, counted in each row without its padding."""
    scores = behaviour_of(inputs.options).score(inputs)
    chosen = choose(scores, inputs.candidates, inputs.targets)
    return [row[valid].nonzero()[:, 0].tolist() for row, valid in zip(chosen, inputs.prompt, strict=True)]


def test_every_criterion_is_tried() -> None:
    missing = {kind.model_fields["name"].default for kind in TABLE} - {
        parse_criterion(o).name for o in CRITERIA.values()
    }
    assert not missing, f"a criterion without a short name needs its entry in CRITERIA of this file: {missing}"


@pytest.mark.parametrize("name", CRITERIA)
def test_a_batch_keeps_what_each_of_its_rows_keeps(name: str) -> None:
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    options = parse_criterion(CRITERIA[name])
    for turn in range(BATCHES):
        rows = [sample(generator) for _ in range(2 + turn % 4)]
        # Prototypes among the tokens themselves: similarities of exactly 1, and ties.
        prototypes = torch.cat([rows[0]["hidden"][-3:], torch.randn(4, WIDTH, generator=generator)])
        share = (0.3, 0.6, 0.9)[turn % 3]  # of the last ones many are equal to one that is kept
        together = kept(inputs_of(rows, options, prototypes, turn % 2 == 0, share))
        alone = [kept(inputs_of([row], options, prototypes, True, share))[0] for row in rows]
        assert together == alone, turn


def test_diversity_is_the_greedy_choice_made_one_token_at_a_time() -> None:
    """DivPrune written out for one row, with distances in double precision rounded as the batch has them."""
    generator = torch.Generator().manual_seed(7)
    options = parse_criterion("diversity")
    for turn in range(BATCHES):
        row = sample(generator)
        inputs = inputs_of([row], options, torch.zeros(1, WIDTH), True, (0.3, 0.6, 0.9)[turn % 3])
        alive = inputs.candidates[0].nonzero()[:, 0].tolist()
        unit = torch.nn.functional.normalize(row["hidden"].double(), dim=1)
        apart = {(i, j): float(1 - (unit[i] @ unit[j]).float()) for i in alive for j in alive}
        alone = {i: min([apart[i, j] for j in alive if j != i], default=4.0) for i in alive}
        chosen = [max(alive, key=lambda i: (alone[i], -i))]
        while len(chosen) < inputs.n_targets[0]:
            left = [i for i in alive if i not in chosen]
            chosen.append(max(left, key=lambda i: (min(apart[i, c] for c in chosen), -i)))
        assert kept(inputs)[0] == sorted(chosen)


def test_merging_a_batch_is_merging_each_row() -> None:
    generator = torch.Generator().manual_seed(3)
    for turn in range(BATCHES):
        rows = [sample(generator) for _ in range(3)]
        inputs = inputs_of(rows, parse_criterion("uniform"), torch.zeros(1, WIDTH), left=turn % 2 == 0)
        stay = choose(behaviour_of(inputs.options).score(inputs), inputs.candidates, inputs.targets)
        leave = inputs.candidates & ~stay
        together = merged(inputs.hidden, stay, leave, max(inputs.n_targets), int(leave.sum(1).max()))
        for b, row in enumerate(rows):
            valid = inputs.prompt[b]
            sides = (stay[b, valid][None], leave[b, valid][None])
            sizes = (int(side.sum()) for side in sides)
            assert torch.equal(together[b, valid], merged(row["hidden"][None], *sides, *sizes)[0])


# -- what a prefill waits for

ONE_OF_EACH = schedule(
    (0, {"ratio": 0.9}, {"name": "diversity"}),
    (1, {"ratio": 0.7}, attention("text", heads="max")),
    (2, {"ratio": 0.6}, attention("raters", combine="visual")),
    (3, {"ratio": 0.5}, attention("last", at="current")),
    (4, {"ratio": 0.3}, {"name": "random"}),
    (5, WITHDRAW, None),
)
MERGING = Schedule.model_validate(
    {"stages": [{"layer": 1, "keep": {"ratio": 0.3}, "criterion": {"name": "diversity"}, "merge": "mean"}]}
)
COMPACT = Schedule.model_validate({**presets.himap((1, 3), (0.5, 0.2)).to_json_dict(), "positions": "compact"})
ADAPTIVE = schedule(
    (1, {"mass": 0.9}, attention("text")),
    (2, {"ratio": 0.3}, attention("last")),
    (3, {"threshold": 0.01}, attention("all")),
)
READS = {
    "one of each": (ONE_OF_EACH, 2),
    "merging": (MERGING, 2),
    "compact": (COMPACT, 2),
    "vision tower": (presets.visionzip(), 2),
    "withdrawal": (presets.vtw(2), 1),
    "adaptive": (ADAPTIVE, 2 + 2),
}


def reads(zoo: Zoo) -> Counter[str]:
    with torch.no_grad(), counted_syncs() as found:
        zoo.model(**zoo.inputs, use_cache=True)
    return found


@pytest.mark.parametrize("plan", [[[0]], [[0, 1], [2], [1, 0]]], ids=["one sample", "ragged batch"])
@pytest.mark.parametrize("name", READS)
def test_a_prefill_reads_its_layout_its_checks_and_one_count_for_each_adaptive_stage(
    name: str, plan: list[list[int]]
) -> None:
    zoo = FAMILIES["llava"].build(plan)
    wanted, expected = READS[name]
    dense = reads(zoo)
    with autoprune.apply(zoo.model, wanted) as patch:
        reads(zoo)  # images of new shapes are followed through the tower once
        pruned = reads(zoo)
    assert patch.report.active
    pruned.subtract(dense)
    calls = {name: count for name, count in pruned.items() if not name.startswith("aten::")}
    assert sum(calls.values()) == expected, calls
    assert pruned["aten::nonzero"] == 0


@pytest.mark.parametrize("name", CRITERIA)
def test_no_operator_runs_row_by_row(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    options, prototypes = parse_criterion(CRITERIA[name]), torch.randn(5, WIDTH)
    row = sample(generator)
    counts = []
    for batch in (2, 16):
        inputs = inputs_of([row] * batch, options, prototypes, left=True)
        with counted_operators() as found:
            behaviour_of(options).score(inputs)
        # The tables of random and even choice are made on the host, one short row for each sample.
        counts.append(found.total() if name not in ("random", "uniform") else found["aten::gather"])
    assert counts[0] == counts[1]


def test_diversity_walks_once_for_the_whole_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = inputs_of(
        [sample(generator) for _ in range(16)], parse_criterion("diversity"), torch.zeros(1, WIDTH), True
    )
    with counted_operators() as found:
        behaviour_of(inputs.options).score(inputs)
    assert found["aten::argmax"] == max(inputs.n_targets) + 1
