"""Methods that are more than a set of rows, against plain loops: raters, combined rows, merging, codebooks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.methods import MethodsReference
from support.zoo import internvl, llava, qwen2_5_vl

import autoprune
from autoprune import Schedule
from autoprune.errors import PatchError, ScheduleError
from autoprune.runtime.criteria.attention import better_rank

RATERS = {"name": "attention", "rows": "raters"}
BOTH = {"name": "attention", "rows": "text", "combine": "visual", "heads": "max", "reduce": "mean"}
LAST = {"name": "attention", "rows": "last"}


def stage(layer: int, ratio: float, criterion: dict, **more: str) -> dict:
    return {"layer": layer, "keep": {"ratio": ratio}, "criterion": criterion, **more}


SCHEDULES = {
    "raters": [stage(1, 0.6, RATERS), stage(3, 0.3, RATERS)],
    "raters of the current layer": [stage(0, 0.5, {**RATERS, "at": "current"})],
    "combined": [stage(1, 0.7, BOTH), stage(2, 0.5, BOTH), stage(4, 0.2, BOTH)],
    "merge": [stage(0, 0.5, {"name": "uniform"}, merge="mean"), stage(3, 0.2, LAST, merge="mean")],
    "merge once": [stage(2, 0.3, RATERS, merge="mean"), stage(4, 0.1, LAST)],
}


def equal_to_the_reference(zoo, wanted: Schedule, prototypes: torch.Tensor | None = None) -> None:
    reference = MethodsReference(zoo.model, wanted, zoo.visual, zoo.inputs["attention_mask"])
    reference.prototypes = prototypes
    options = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    with torch.no_grad():
        with reference:
            expected = zoo.model.generate(**zoo.inputs, **options)
        with autoprune.apply(zoo.model, wanted) as patch:
            got = zoo.model.generate(**zoo.inputs, **options)
    last = wanted.stages[-1].layer
    alive = zoo.inputs["attention_mask"].bool() & ~reference.dead[last]
    assert torch.equal(patch.report.tokens[-1], alive.sum(1))
    torch.testing.assert_close(torch.stack(got.logits), torch.stack(expected.logits), atol=1e-4, rtol=0)
    assert torch.equal(got.sequences, expected.sequences)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("family", [llava, qwen2_5_vl, internvl])
def test_equals_the_reference(family, name: str) -> None:
    equal_to_the_reference(family(), Schedule(stages=SCHEDULES[name]))


def codebook(folder: Path, prototypes: torch.Tensor, header: dict[str, str] | None = None) -> dict:
    path = folder / "book.safetensors"
    save_file({"prototypes": prototypes}, path, metadata=header)
    return {"name": "codebook", "path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("keep", [{"ratio": 0.4}, {"threshold": -0.2}])
@pytest.mark.parametrize("family", [llava, qwen2_5_vl, internvl])
def test_codebook_equals_the_reference(family, keep: dict, tmp_path: Path) -> None:
    prototypes = torch.randn(7, 64, generator=torch.Generator().manual_seed(4))
    criterion = codebook(tmp_path, prototypes)
    wanted = Schedule(stages=[{"layer": 0, "keep": keep, "criterion": criterion}, stage(3, 0.1, LAST)])
    equal_to_the_reference(family(), wanted, prototypes)


def test_what_leaves_is_the_intersection_of_the_two_lists_of_the_lowest() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(1, 40, generator=generator), torch.rand(1, 40, generator=generator)
    candidates = torch.ones(1, 40, dtype=torch.bool)
    candidates[0, ::7] = False
    scores = better_rank(first, second, candidates)
    alive = candidates[0].nonzero()[:, 0].tolist()
    for prefix in range(1, len(alive)):
        low = [set(sorted(alive, key=lambda j, s=s: float(s[0, j]))[:prefix]) for s in (first, second)]
        leaving = low[0] & low[1]
        lowest = sorted(alive, key=lambda j: float(scores[0, j]))[: len(leaving)]
        assert set(lowest) == leaving


class TestBadCodebooks:
    def apply(self, criterion: dict, layer: int = 0) -> None:
        autoprune.apply(llava().model, Schedule(stages=[stage(layer, 0.5, criterion)]))

    def test_missing(self, tmp_path: Path) -> None:
        criterion = {**codebook(tmp_path, torch.randn(3, 64)), "path": str(tmp_path / "other.safetensors")}
        with pytest.raises(ScheduleError, match="no such codebook"):
            self.apply(criterion)

    @pytest.mark.parametrize(
        ("tensor", "header", "says"),
        [
            (torch.ones(3, 64), {"format": "autoprune.codebook", "version": "9"}, "its version is 9"),
            (torch.ones(3, 64), {"format": "somebody.else", "version": "1"}, "its format is somebody.else"),
            (torch.ones(3, 64).int(), None, "torch.int32"),
            (torch.ones(3, 64).bool(), None, "torch.bool"),
            (torch.full((3, 64), float("nan")), None, "not finite"),
            (torch.full((3, 64), float("inf"), dtype=torch.bfloat16), None, "not finite"),
        ],
    )
    def test_what_is_no_codebook_of_ours(self, tensor, header, says, tmp_path: Path) -> None:
        with pytest.raises(ScheduleError, match=says):
            self.apply(codebook(tmp_path, tensor, header))

    def test_another_number_than_the_price_was_made_with(self, tmp_path: Path) -> None:
        criterion = codebook(tmp_path, torch.randn(3, 64))
        self.apply({**criterion, "prototypes": 3})
        with pytest.raises(ScheduleError, match="prototypes: the file holds 3"):
            self.apply({**criterion, "prototypes": 300})

    def test_another_file(self, tmp_path: Path) -> None:
        criterion = codebook(tmp_path, torch.randn(3, 64))
        codebook(tmp_path, torch.randn(3, 64))
        with pytest.raises(ScheduleError, match="another codebook"):
            self.apply(criterion)

    def test_another_width(self, tmp_path: Path) -> None:
        with pytest.raises(ScheduleError, match=r"prototypes.*\[P, 64\]"):
            self.apply(codebook(tmp_path, torch.randn(3, 48)))

    def test_not_safetensors(self, tmp_path: Path) -> None:
        path = tmp_path / "book.safetensors"
        path.write_bytes(b"not a tensor file")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with pytest.raises(ScheduleError, match="no safetensors"):
            self.apply({"name": "codebook", "path": str(path), "sha256": digest})

    def test_deeper_than_the_first_layer(self, tmp_path: Path) -> None:
        with pytest.raises(PatchError, match="layer 0"):
            self.apply(codebook(tmp_path, torch.randn(3, 64)), layer=2)
