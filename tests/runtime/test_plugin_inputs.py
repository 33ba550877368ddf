"""What a criterion of another package is handed: the states, tokens and scores of the stage that it serves."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support.zoo import FAMILIES

import autoprune
from autoprune.schedule import Schedule

CODE = """
from typing import ClassVar, Literal
from autoprune.schedule import PluginCriterion, Reads

SEEN = []

class One(PluginCriterion):
    name: Literal["broken/one"] = "broken/one"
    where: Literal["LAYER_BEFORE", "TOWER"] = "LAYER_BEFORE"
    source: ClassVar[str] = "made up for this test"

    @property
    def reads(self):
        return Reads[self.where]

    @staticmethod
    def score(inputs):
        SEEN.append(inputs)
        return inputs.candidates.float()

    @staticmethod
    def macs(n_candidates, n_rows, width, heads, options):
        return 0
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    info = tmp_path / "broken-0.1.dist-info"
    info.mkdir()
    (tmp_path / "broken.py").write_text(CODE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[autoprune.criteria]\nbroken/one = broken:One\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    import broken  # only there once the fixture has put it on the path

    return broken


def schedule(*stages: tuple[int, int, dict[str, Any]]) -> Schedule:
    return Schedule(stages=[{"layer": k, "keep": {"count": n}, "criterion": c} for k, n, c in stages])


@pytest.mark.parametrize("family", ["llava", "qwen3_vl"])
def test_hidden_states_are_those_that_enter_the_layer_of_the_stage(family: str, plugin: ModuleType) -> None:
    """In Qwen3-VL the model itself adds features of the tower between the layers."""
    zoo = FAMILIES[family].build([[0], [1]])
    entering: list[torch.Tensor] = []
    layer = zoo.model.get_decoder().layers[2]
    hook = layer.register_forward_pre_hook(
        lambda module, args, kwargs: entering.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad(), autoprune.apply(zoo.model, schedule((2, 3, {"name": "broken/one"}))) as patch:
        zoo.model(**zoo.inputs)
    hook.remove()
    (seen,) = plugin.SEEN
    assert torch.equal(seen.hidden, entering[0])
    assert seen.targets.tolist() == [3, 3]
    assert patch.scores.keys() == {(2, seen.options)}


def test_a_later_stage_by_the_tower_sees_the_tokens_that_are_left(plugin: ModuleType) -> None:
    zoo = FAMILIES["llava"].build([[0], [1]])
    tower = {"name": "broken/one", "where": "TOWER"}
    with torch.no_grad(), autoprune.apply(zoo.model, schedule((1, 6, {"name": "uniform"}), (4, 2, tower))):
        zoo.model(**zoo.inputs)
    (seen,) = plugin.SEEN
    assert seen.n_candidates == (6, 6)
    assert seen.candidates.sum(1).tolist() == [6, 6]
    assert seen.tower is not None
