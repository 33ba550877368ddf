"""The GPU tables of studies/runtime_speed: every part runs on a tiny shape, within the time that is given."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from autoprune import presets
from autoprune.models.config import read_config
from autoprune.pricing.architecture import Architecture

STUDY = Path(__file__).parents[2] / "studies" / "runtime_speed"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("runtime_speed_gpu", STUDY / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def content(gpu: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a trial run writes."""
    size = gpu.Size(settings=((2, 16),), tower_batches=(1,), text_tokens=8, new_tokens=2, rounds=1)
    stem = tmp_path_factory.mktemp("tables") / "tiny"
    gpu.run(size, tiny=True, minutes=5, stem=stem)
    written: dict[str, Any] = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
    return {**written, "markdown": stem.with_suffix(".md").read_text(encoding="utf-8")}


def test_every_preset_is_measured_beside_the_dense_model(content: dict[str, Any]) -> None:
    names = [row["name"] for row in content["text_model"]]
    assert {*names, "visionzip", "dense"} == set(presets.NAMES)
    assert [row["name"] for row in content["with_tower"]] == ["fastv", "visionzip"]
    for row in [*content["text_model"], *content["with_tower"]]:
        assert "left_out" not in row, row
        assert row["dense"]["prefill_ms"]
        assert f"| {row['name']} |" in content["markdown"]


def test_exactness_is_shown(content: dict[str, Any]) -> None:
    assert content["exactness"]["passed"]
    assert "Pruning is exact against the masked reference" in content["markdown"]


def test_nothing_begins_when_the_time_is_spent_and_the_tables_say_so(gpu: ModuleType, tmp_path: Path) -> None:
    stem = tmp_path / "tiny"
    tables = gpu.run(gpu.TINY, tiny=True, minutes=0, stem=stem)
    rows = [tables.exactness, *tables.text_model, *tables.with_tower]
    assert {row["left_out"] for row in rows} == {"the time was spent"}
    said = stem.with_suffix(".md").read_text(encoding="utf-8").count("the time was spent")
    assert said == len(rows) + len(tables.text_model)  # whose rows stand in two tables


def test_a_part_that_would_end_too_late_does_not_begin(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(gpu.time, "monotonic", lambda: clock[0])
    budget = gpu.Budget(deadline=100.0)

    def part() -> dict[str, Any]:
        clock[0] += 20
        return {}

    assert budget.run("a", 100, part) == {}
    assert "time" in budget.run("a", 500, part)["left_out"]  # five times the tokens: 100 s, and 80 are left
    assert budget.run("a", 400, part) == {}
    assert budget.run("b", 10**6, part) == {}  # nothing is known of this kind


def test_what_does_not_fit_is_left_out(gpu: ModuleType) -> None:
    def part() -> dict[str, Any]:
        raise torch.cuda.OutOfMemoryError

    assert gpu.Budget(deadline=float("inf")).run("a", 1, part) == {"left_out": "out of memory"}


def test_without_a_gpu_the_full_size_is_refused(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu.sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit) as refused:
        gpu.main()
    assert refused.value.code == 2
    assert "--tiny runs without one" in capsys.readouterr().err


def test_the_shape_is_that_of_llava_7b() -> None:
    config = read_config(STUDY / "llava_7b.json")
    assert Architecture.from_config(config).layers[31].hidden == 4096
    assert (config.vision_config.image_size // config.vision_config.patch_size) ** 2 == 576
