"""Probes in short batches on top of one dense pass, against one whole forward pass per probe that masks instead."""

from __future__ import annotations

import math

import pytest
import torch
from support.zoo import FAMILIES, HYBRIDS, llava, qwen2_5_vl
from torch.nn.functional import cosine_similarity, kl_div

from autoprune.analysis.codebook import prompt as module
from autoprune.analysis.codebook.measures import measure, places
from autoprune.analysis.codebook.neighbours import neighbourhoods
from autoprune.analysis.codebook.prompt import Probe, ProbedPrompt
from autoprune.errors import DataError, ModelError

CORE = ("llava", "qwen2_5_vl", "internvl")
ROWS = (*CORE, "qwen3_vl", "llava_next", "gemma3", "paligemma", "qwen2_5_vl_video", "qwen3_5")


def slow(zoo, kept: torch.Tensor, filled: torch.Tensor, fill: torch.Tensor | None = None) -> torch.Tensor:
    """Logits [V] of the whole prompt, nobody seeing the visual tokens that are not kept."""
    model, decoder = zoo.model, zoo.model.get_decoder()
    columns = zoo.visual[0].nonzero()[:, 0]
    seen = {}

    def change(module, args, kwargs):
        seen.update(kwargs)
        embeds = kwargs["inputs_embeds"].clone()
        length = embeds.shape[1]
        embeds[0, columns[filled]] = embeds[0, columns].mean(0) if fill is None else fill
        mask = torch.ones(length, length).tril().bool()
        mask[:, columns[~kept]] = False
        mask |= torch.eye(length, dtype=torch.bool)
        positions = kwargs.get("position_ids")
        positions = torch.arange(length)[None] if positions is None else positions
        additive = torch.zeros(1, 1, length, length).masked_fill(~mask, torch.finfo(torch.float32).min)
        return args, {**kwargs, "inputs_embeds": embeds, "attention_mask": additive, "position_ids": positions}

    handle = decoder.register_forward_pre_hook(change, with_kwargs=True)
    with torch.no_grad():
        logits = model(**zoo.inputs, use_cache=False).logits[0, -1]
    handle.remove()
    return logits


def masks(zoo) -> tuple[int, torch.Tensor]:
    n = int(zoo.visual[0].sum())
    return n, torch.zeros(n, dtype=torch.bool)


def some_probes(n: int) -> list[Probe]:
    """Of every kind, and of very different lengths."""
    generator, none = torch.Generator().manual_seed(0), torch.zeros(n, dtype=torch.bool)
    made = [Probe(~none, none), Probe(none, none)]
    for share in (0.1, 0.5, 0.9):
        kept = torch.rand(n, generator=generator) < share
        made += [Probe(kept, none), Probe(kept, kept & (torch.rand(n, generator=generator) < 0.5))]
    late = ~none
    late[n - 3 :] = False
    return [*made, Probe(late, none), Probe(~none, ~late, "pad")]


@pytest.mark.parametrize("at_once", [60, 8192], ids=["many batches", "one batch"])
@pytest.mark.parametrize("family", CORE)
def test_equal_to_one_masked_pass_per_probe(family: str, at_once: int, monkeypatch) -> None:
    monkeypatch.setattr(module, "_TOKENS_AT_ONCE", at_once)
    zoo = FAMILIES[family].build([[0, 1]])
    pad = torch.randn(64, generator=torch.Generator().manual_seed(3))
    probes = some_probes(int(zoo.visual.sum()))
    got = ProbedPrompt(zoo.model, zoo.inputs, pad).run(probes)
    for probe, logits in zip(probes, got, strict=True):
        wanted = slow(zoo, probe.kept, probe.filled, pad if probe.fill == "pad" else None)
        torch.testing.assert_close(logits, wanted, atol=2e-4, rtol=1e-4)
    assert (got[0] - got[1]).abs().max() > 0.1, "the image must be felt"


@pytest.mark.parametrize("family", ROWS)
def test_nothing_changed_is_the_dense_pass(family: str) -> None:
    """Deepstack, masks without causality, tiles, frames, learnt positions."""
    row = FAMILIES.get(family) or HYBRIDS[family]
    zoo = row.build([[0, 1]])
    prompt = ProbedPrompt(zoo.model, zoo.inputs)
    n = len(prompt.features)
    none = torch.zeros(n, dtype=torch.bool)
    with torch.no_grad():
        wanted = zoo.model(**zoo.inputs).logits[0, -1]
    changed = none.clone()
    changed[0] = True
    # In one batch with a shorter one, so that it is padded, or both start where the first differs.
    got = prompt.run([Probe(~none, none), Probe(~changed, none), Probe(~none, changed)])
    torch.testing.assert_close(got[0], wanted, atol=2e-4, rtol=1e-4)
    assert not torch.allclose(got[1], wanted, atol=1e-4)


def test_far_fewer_columns_are_run_than_one_by_one() -> None:
    zoo = llava([[0]])
    prompt, ran = ProbedPrompt(zoo.model, zoo.inputs), []
    layer = zoo.model.get_decoder().layers[0]
    handle = layer.register_forward_pre_hook(lambda m, args: ran.append(args[0].shape[:2]))
    n = len(prompt.features)
    none = torch.zeros(n, dtype=torch.bool)
    single = [none.clone().index_fill_(0, torch.tensor([i]), True) for i in range(n)]
    prompt.run([Probe(one, none) for one in single])
    handle.remove()
    assert len(ran) == 1
    text_after = int(len(prompt.visual) - prompt.visual.nonzero()[-1] - 1)
    # The first token's probe keeps it, so the dense pass serves even for that.
    assert ran[0][1] <= 1 + text_after


def js(a: torch.Tensor, b: torch.Tensor) -> float:
    p, q = a.softmax(-1), b.softmax(-1)
    m = (p + q) / 2
    return float((kl_div(m.log(), p, reduction="sum") + kl_div(m.log(), q, reduction="sum")) / 2)


def paper_js(a: torch.Tensor, whole: torch.Tensor) -> float:
    """As in the released code: 10 ids of the whole run, targets and inputs of `kl_div` the other way, mean over ids."""
    ids = whole.topk(10).indices
    p, q = a[ids].softmax(-1), whole[ids].softmax(-1)
    m = (p + q) / 2
    return float((kl_div(p.log(), m, reduction="sum") + kl_div(q.log(), m, reduction="sum")) / 2 / 10)


@pytest.mark.parametrize("variant", ["sound", "paper"])
@pytest.mark.parametrize("family", CORE)
def test_measures_equal_the_definition(family: str, variant: str) -> None:
    zoo = FAMILIES[family].build([[0, 1]])
    pad = torch.randn(64, generator=torch.Generator().manual_seed(3))
    prompt = ProbedPrompt(zoo.model, zoo.inputs, pad)
    n, none = masks(zoo)
    neighbours = neighbourhoods(zoo.inputs, prompt.visual, 2)
    probed = torch.arange(0, n, 5)
    got = measure(prompt, neighbours, probed, variant)
    whole = slow(zoo, ~none, none)

    def only(tokens):
        return none.clone().index_fill_(0, torch.tensor(tokens), True)

    def without(kept, gone):
        return slow(zoo, kept, gone, pad) if variant == "paper" else slow(zoo, kept & ~gone, none)

    def top(logits):
        return float((logits.topk(50).values if variant == "paper" else logits).softmax(-1).max())

    apart = paper_js if variant == "paper" else js
    alone, alone_null, local, local_null, everywhere, everywhere_null = ([] for _ in range(6))
    regions = neighbours.around if variant == "paper" else neighbours.tile
    for number, i in enumerate(probed.tolist()):
        one, part = only([i]), only(neighbours.around[i])
        alone.append(top(slow(zoo, one, none)))
        local.append(apart(without(part, one), slow(zoo, part, none)))
        everywhere.append(apart(without(~none, only(regions[i])), whole))
        if number % 4 == 0:
            alone_null.append(top(slow(zoo, one, one)))
            local_null.append(apart(without(part, one), slow(zoo, part, one)))
            everywhere_null.append(apart(without(~none, only(regions[i])), slow(zoo, ~none, only(regions[i]))))
    distinct = list(dict.fromkeys(tuple(regions[i]) for i in probed.tolist()))
    wanted = {"confidence": alone, "local": local, "global": everywhere}
    null = {"confidence": alone_null, "local": local_null, "global": everywhere_null}
    if variant == "paper":
        for table in (wanted, null):
            table["context"] = [a + 16 * b for a, b in zip(table.pop("local"), table.pop("global"), strict=True)]
    else:
        prior = sum(alone_null) / len(alone_null)
        wanted["confidence"] = [value - prior for value in alone]
        null["confidence"] = [value - prior for value in alone_null]
    assert got.values.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(got.values[name], torch.tensor(wanted[name]), atol=2e-5, rtol=1e-3)
        torch.testing.assert_close(got.null[name], torch.tensor(null[name]), atol=2e-5, rtol=1e-3)
    assert got.noise < 1e-6
    nulls = 2 * len(alone_null) + len({tuple(regions[i]) for i in probed.tolist()[::4]})
    assert got.forwards == 2 + 3 * len(probed) + len(distinct) + nulls


class TestNeighbourhoods:
    def test_squares_are_shifted_inward_at_borders(self) -> None:
        visual = torch.tensor([False] + [True] * 32 + [False])
        around = neighbourhoods({"pixel_values": torch.zeros(2, 3, 8, 8)}, visual, 1).around
        for image in range(2):
            for row in range(4):
                for column in range(4):
                    rows = range(*{0: (0, 3), 3: (1, 4)}.get(row, (row - 1, row + 2)))
                    columns = range(*{0: (0, 3), 3: (1, 4)}.get(column, (column - 1, column + 2)))
                    wanted = [16 * image + 4 * r + c for r in rows for c in columns]
                    assert around[16 * image + 4 * row + column] == wanted

    def test_grids_of_the_processor(self) -> None:
        inputs = {"image_grid_thw": torch.tensor([[1, 4, 8], [1, 4, 4]])}
        around = neighbourhoods(inputs, torch.ones(12, dtype=torch.bool), 2).around
        assert around[0] == [0, 1, 2, 4, 5, 6]
        assert around[3] == [1, 2, 3, 5, 6, 7]
        assert around[8] == around[11] == [8, 9, 10, 11]

    @pytest.mark.parametrize("inputs", [{}, {"pixel_values": torch.zeros(2, 3, 8, 8)}], ids=["unknown", "no squares"])
    def test_without_a_grid_the_nearest_of_the_same_image(self, inputs) -> None:
        visual = torch.tensor([True] * 12 + [False, False] + [True] * 4)
        around = neighbourhoods(inputs, visual, 1).around
        assert around[0] == around[4] == list(range(9))
        assert around[6] == list(range(2, 11))
        assert around[11] == list(range(3, 12))
        assert around[12] == around[15] == [12, 13, 14, 15]

    @pytest.mark.parametrize(("side", "tiles"), [(4, 4), (6, 4), (8, 9)])
    def test_tiles_cover_the_image(self, side: int, tiles: int) -> None:
        visual = torch.ones(side * side, dtype=torch.bool)
        found = neighbourhoods({"pixel_values": torch.zeros(1, 3, 8, 8)}, visual, 1)
        assert all(i in tile for i, tile in enumerate(found.tile))
        assert len({tuple(tile) for tile in found.tile}) == tiles
        assert all(tile in found.around for tile in found.tile)


def test_places_span_the_ranks() -> None:
    features = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    likeness = cosine_similarity(features, torch.nn.functional.normalize(features, dim=1).mean(0)[None])
    ranks = likeness.argsort().argsort()
    assert sorted(ranks[places(features, 10)].tolist()) == [2, 6, 10, 14, 18, 22, 26, 30, 34, 38]
    assert places(features, 99).tolist() == list(range(40))


def test_prompts_that_cannot_be_probed() -> None:
    zoo = qwen2_5_vl()
    with pytest.raises(DataError, match="one sample"):
        ProbedPrompt(zoo.model, zoo.inputs)
    zoo = llava([[0]])
    padded = {name: torch.nn.functional.pad(value, (1, 0)) for name, value in zoo.inputs.items() if value.ndim == 2}
    with pytest.raises(DataError, match="must not be padded"):
        ProbedPrompt(zoo.model, {**zoo.inputs, **padded})
    text = {"input_ids": torch.randint(10, 99, (1, 8))}
    with pytest.raises(DataError, match="no visual token"):
        ProbedPrompt(zoo.model, text)
    zoo = FAMILIES["blip-2"].build([[0]])
    with pytest.raises(ModelError, match="wants pixel_values in every call"):
        ProbedPrompt(zoo.model, zoo.inputs)


def test_the_divergence_is_bounded_by_ln_2() -> None:
    zoo = llava([[0]])
    prompt = ProbedPrompt(zoo.model, zoo.inputs)
    got = measure(prompt, neighbourhoods(zoo.inputs, prompt.visual, 1), torch.arange(16), "sound")
    assert all(
        float(v.min()) >= 0 and float(v.max()) <= math.log(2) for k, v in got.values.items() if k != "confidence"
    )
