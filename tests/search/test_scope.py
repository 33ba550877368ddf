import copy
import json
from pathlib import Path

import numpy as np
import pytest
from support.studies import tiny_spec, write_study
from support.versions import needs
from support.zoo import HYBRIDS, llava
from transformers import LlamaConfig

from autoprune import presets
from autoprune.errors import StudyError
from autoprune.schedule import Schedule
from autoprune.search.scope import Scope
from autoprune.search.spec import StudySpec

LLAVA = llava().model.config
LLAMA = LlamaConfig(num_hidden_layers=8, hidden_size=16, num_attention_heads=2)


def whole(folder: Path) -> StudySpec:
    return StudySpec.load(write_study(folder, space=None, baselines=None))


def test_by_default_everything_that_the_model_can_run_is_tried(tmp_path: Path) -> None:
    scope = Scope.of(whole(tmp_path), LLAVA, 6)
    assert {"encoder", "encoder + merge", "diversity", "raters + merge"} <= set(scope.space.methods)
    assert [b.name for b in scope.baselines] == [name for name in presets.NAMES if name != "dense"]
    assert [what for what, _ in scope.left_out] == ["baseline fitprune", "baseline codebook"]


def test_without_a_vision_tower_what_reads_it_is_left_out_and_said(tmp_path: Path) -> None:
    scope = Scope.of(whole(tmp_path), LLAMA, 8)
    assert not [label for label in scope.space.methods if label.startswith("encoder")]
    assert "visionzip" not in [b.name for b in scope.baselines]
    assert {"encoder", "baseline visionzip"} <= {what for what, _ in scope.left_out}
    assert all(c.name != "encoder" for c in scope.criteria)


@needs("5.23", "the family is that of the pinned release")
def test_layers_without_attention_are_not_read(tmp_path: Path) -> None:
    """A method stands where what it reads is there: attention here in layers 1 and 4 alone."""
    config = HYBRIDS["qwen3_5"].build().model.config
    scope = Scope.of(whole(tmp_path), config, 6)
    serving = {label: [k for k in range(6) if method.serves(k)] for label, method in scope.space.methods.items()}
    assert serving["last"] == serving["text + merge"] == [2, 5]
    assert serving["diversity"] == list(range(6))
    assert all(s.criterion.layer_read(s.layer) in (None, 1, 4) for d in drawn(scope) for s in d.stages if s.criterion)
    why = dict(scope.left_out)
    assert why["baseline fastv"] == "before layer 1 it reads layer 0, which has no attention"
    assert "last" not in why
    at_end = tiny_spec(tmp_path, space={"criteria": ["last"], "layers": [1, 3], "keep": [0.5]})
    with pytest.raises(StudyError, match=r"space.criteria: read attention that no layer .*'last'"):
        Scope.of(at_end, config, 6)


def drawn(scope: Scope) -> list[Schedule]:
    rng = np.random.default_rng(0)
    return [scope.space.draw(rng) for _ in range(50)]


def test_what_only_the_loaded_model_refuses_is_left_out_too(tmp_path: Path) -> None:
    why = "its attention could not be observed"
    scope = Scope.of(whole(tmp_path), LLAVA, 6, {"encoder": why, "last at=current": why})
    assert {("encoder", why), ("baseline visionzip", why), ("baseline pyramiddrop", why)} <= set(scope.left_out)


def test_a_criterion_that_the_file_names_is_not_left_out_in_silence(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, space={"criteria": ["encoder", "text"]})
    with pytest.raises(StudyError, match=r"space.criteria: cannot be used with this model.*vision tower.*'encoder'"):
        Scope.of(spec, LLAMA, 8)


def test_presets_that_the_model_is_too_shallow_for_are_left_out(tmp_path: Path) -> None:
    shallow = copy.deepcopy(LLAVA)
    shallow.text_config.num_hidden_layers = 3
    scope = Scope.of(whole(tmp_path), shallow, 3)
    assert dict(scope.left_out)["baseline pyramiddrop"] == "pyramiddrop needs layer 3, the model has layers 0 to 2"


def test_a_schedule_of_another_model_is_mapped_by_relative_depth(tmp_path: Path) -> None:
    identity = {"name": "big", "model_type": "llava", "num_layers": 32, "hidden_size": 16, "config_sha256": "0" * 64}
    stages = [{"layer": 16, "keep": {"ratio": 0.5}, "criterion": {"name": "diversity"}}]
    content = {
        "format": "autoprune.schedule",
        "version": 1,
        "model": identity,
        "stages": stages,
        "evidence": {"drop": 0},
    }
    write_study(tmp_path)
    (tmp_path / "mine.json").write_text(json.dumps(content))
    (found,) = Scope.of(tiny_spec(tmp_path, baselines=["mine.json"]), LLAMA, 8).baselines
    assert (found.name, found.schedule.stages[0].layer, found.schedule.model) == ("mine", 4, None)
    assert found.schedule.evidence == {"mapped_from": {"model": "big", "depth": 32, "layers": [16]}}
