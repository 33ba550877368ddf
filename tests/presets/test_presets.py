"""Presets against what the papers and their released code say: layers, tokens left, who votes, on which layer."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import LlamaConfig

from autoprune import presets
from autoprune.errors import ScheduleError
from autoprune.pricing.cost import cost
from autoprune.schedule import Schedule

LAST = {"rows": "last", "heads": "mean", "reduce": "sum", "normalize": "none"}
TEXT = {**LAST, "rows": "text"}
VISUAL = {**LAST, "rows": "visual"}
RATERS = {**LAST, "rows": "raters", "reduce": "mean"}
# Per stage: layer it prunes before, tokens left of 576, voting rows and reductions, layer whose attention is read.
PUBLISHED: dict[str, tuple[Schedule, list[tuple[int, int, dict[str, str] | None, str | None]]]] = {
    "VTW, LLaVA-1.5-7B": (presets.vtw(15), [(15, 0, None, None)]),
    "FastV": (presets.fastv(), [(2, 288, LAST, "previous")]),
    "FastV, K=3, three quarters removed": (presets.fastv(3, 0.25), [(3, 144, LAST, "previous")]),
    "HiMAP, short answers": (presets.himap(), [(2, 288, TEXT, "previous"), (8, 72, VISUAL, "previous")]),
    "HiMAP, captions": (presets.himap_generative(), [(2, 288, TEXT, "previous"), (15, 72, VISUAL, "previous")]),
    "PyramidDrop": (
        presets.pyramiddrop(),
        [(8, 288, LAST, "current"), (16, 144, LAST, "current"), (24, 72, LAST, "current")],
    ),
    "SparseVLM, 192 tokens": (
        presets.sparsevlm(),
        [(3, 300, RATERS, "previous"), (7, 200, RATERS, "previous"), (16, 110, RATERS, "previous")],
    ),
}


@pytest.mark.parametrize(("schedule", "expected"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_settings(
    schedule: Schedule, expected: list[tuple[int, int, dict[str, str] | None, str | None]]
) -> None:
    alive, got = 576, []
    for stage in schedule.stages:
        alive = stage.keep.target(576, alive)
        criterion = stage.criterion.model_dump(exclude={"name"}, exclude_none=True) if stage.criterion else None
        got.append((stage.layer, alive, criterion, criterion.pop("at") if criterion else None))
    assert got == expected


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        # FastV's README: 57 % for K=3, R=50 %; its abstract: 45 % saved for K=2. Prompt: 576 visual + 36 other tokens.
        (presets.fastv(3, 0.5), 0.57),
        (presets.fastv(2, 0.5), 0.55),
        (presets.fastv(2, 0.25), 0.33),
        (presets.fastv(2, 0.1), 0.20),
    ],
)
def test_fastv_costs_what_its_authors_say(schedule: Schedule, share: float) -> None:
    vicuna = LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32)
    assert cost(vicuna, schedule, 576, 36).ratio == pytest.approx(share, abs=0.01)


def test_controls_choose_without_looking() -> None:
    (chance,) = presets.random(3, 0.25, seed=7).stages
    (even,) = presets.uniform(3, 0.25).stages
    assert (chance.layer, chance.keep.ratio, chance.criterion.model_dump()) == (3, 0.25, {"name": "random", "seed": 7})
    assert (even.layer, even.keep.ratio, even.criterion.model_dump()) == (3, 0.25, {"name": "uniform"})
    assert presets.random(3, 0.25, seed=7).key != presets.random(3, 0.25, seed=8).key


def test_dense_has_no_stage() -> None:
    assert presets.dense().stages == ()


@pytest.mark.parametrize("name", presets.NAMES)
def test_published_depth_changes_nothing(name: str) -> None:
    assert presets.for_depth(name, 32).key == getattr(presets, name)().key


@pytest.mark.parametrize(
    ("name", "depth", "layers"),
    [
        ("vtw", 40, [20]),
        ("pyramiddrop", 40, [10, 20, 30]),
        ("pyramiddrop", 28, [7, 14, 21]),
        ("himap", 12, [1, 3]),
        ("himap", 8, [1, 2]),
        ("himap_generative", 40, [2, 19]),
        ("himap_generative", 12, [1, 6]),
        ("sparsevlm", 12, [1, 3, 6]),
        ("visionzip", 12, [0]),
        ("divprune", 12, [0]),  # before the decoder, at any depth
        ("himap", 4, [1, 2]),  # both fall on layer 1: the second moves up
        ("pyramiddrop", 4, [1, 2, 3]),
        ("fastv", 8, [1]),  # never layer 0
    ],
)
def test_layers_are_mapped_to_the_depth_of_the_model(name: str, depth: int, layers: list[int]) -> None:
    mapped = presets.for_depth(name, depth)
    published = getattr(presets, name)()
    assert [stage.layer for stage in mapped.stages] == layers
    assert [(s.keep, s.criterion) for s in mapped.stages] == [(s.keep, s.criterion) for s in published.stages]
    assert mapped.evidence["layers"] == layers
    assert mapped.evidence["published_layers"] == [stage.layer for stage in published.stages]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: presets.for_depth("fastvv", 12), ["fastvv", "fastv", "pyramiddrop"]),
        (lambda: presets.for_depth("pyramiddrop", 3), ["pyramiddrop", "layer 3", "0 to 2"]),
        (lambda: presets.himap((2,), (0.5,)), ["himap", "2 values"]),
        (lambda: presets.pyramiddrop((8, 16), (0.5,)), ["pyramiddrop", "layers, keep"]),
        (lambda: presets.himap((8, 2)), ["stages[1].layer", "2", "8"]),
        (lambda: presets.himap((2, 8), (0.25, 0.5)), ["stages[1].keep.ratio", "0.5", "0.25"]),
        (lambda: presets.fastv(2, 1.5), ["stages[0].keep.ratio", "1.5"]),
    ],
)
def test_impossible_settings_are_refused(call: Any, words: list[str]) -> None:
    with pytest.raises(ScheduleError) as caught:
        call()
    assert all(word in str(caught.value) for word in words)


def test_a_name_or_a_file_is_resolved(tmp_path: Any, monkeypatch: Any) -> None:
    presets.vtw(5).save(tmp_path / "mine.json")
    presets.vtw(6).save(tmp_path / "fastv")
    assert presets.resolve("fastv", 16, tmp_path) == presets.for_depth("fastv", 16)  # the preset, not the file
    assert presets.resolve("mine.json", 16, tmp_path).stages[0].layer == 5
    assert presets.resolve(str(tmp_path / "mine.json"), 16, "elsewhere").stages[0].layer == 5
    monkeypatch.chdir(tmp_path)
    assert presets.resolve("mine.json", 16).stages[0].layer == 5


@pytest.mark.parametrize(
    ("name", "depth", "words"),
    [
        ("fastvv", 12, ["no such preset or schedule file", "fastvv", "'fastv'"]),
        ("something", 12, ["give a schedule file", "pyramiddrop"]),
        ("gone.json", 12, ["cannot be read", "gone.json"]),
        ("pyramiddrop", 3, ["layer 3"]),
    ],
)
def test_what_is_neither_a_preset_nor_a_file_is_refused(name: str, depth: int, words: list[str], tmp_path: Any) -> None:
    with pytest.raises(ScheduleError) as caught:
        presets.resolve(name, depth, tmp_path)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("name", presets.NAMES)
def test_every_preset_survives_saving(name: str, tmp_path: Any) -> None:
    preset = presets.for_depth(name, 12)
    preset.save(tmp_path / "schedule.json")
    loaded = Schedule.load(tmp_path / "schedule.json")
    assert loaded == preset
    assert loaded.evidence["preset"] == name
