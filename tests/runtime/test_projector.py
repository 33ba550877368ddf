"""A codebook is for one projector: told by weights, whatever wraps the model or rounds it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.zoo import internvl, llama, llava, qwen2_5_vl

import autoprune
from autoprune.errors import PatchError, ScheduleError
from autoprune.runtime.codebook import read_prototypes, write_prototypes
from autoprune.runtime.projector import projector_digest
from autoprune.schedule import Schedule

FAMILIES = [llava, qwen2_5_vl, internvl]


def schedule(criterion) -> Schedule:
    return Schedule(stages=[{"layer": 0, "keep": {"ratio": 0.5}, "criterion": criterion.model_dump()}])


@pytest.mark.parametrize("family", FAMILIES)
def test_another_projector_is_refused(family, tmp_path: Path) -> None:
    model = family().model
    criterion = write_prototypes(tmp_path / "book.safetensors", torch.randn(3, 64), projector_digest(model))
    autoprune.apply(model, schedule(criterion)).remove()
    autoprune.apply(family().model, schedule(criterion)).remove()
    with pytest.raises(ScheduleError, match=r"another vision tower or projector.*autoprune codebook"):
        autoprune.apply(family(seed=1).model, schedule(criterion))


@pytest.mark.parametrize("part", ["vision", "projector", "text"])
def test_what_counts_is_between_pixels_and_decoder(part: str) -> None:
    names = {"vision": "vision_tower", "projector": "multi_modal_projector", "text": "language_model"}
    reference, model = llava().model, llava().model
    with torch.no_grad():
        weights = [p for name, p in model.named_parameters() if names[part] in name]
        weights[-1].add_(1.0)
        model.lm_head.weight.add_(1.0)
    assert (projector_digest(model) == projector_digest(reference)) == (part == "text")


def test_the_digest_is_that_of_the_model_in_bfloat16() -> None:
    assert projector_digest(llava().model) == projector_digest(llava().model.to(torch.bfloat16))


def test_a_text_model_has_no_projector_to_compare(tmp_path: Path) -> None:
    assert projector_digest(llama()) is None
    criterion = write_prototypes(tmp_path / "book.safetensors", torch.randn(3, 64), "another")
    assert read_prototypes(criterion, 64, llama()).shape == (3, 64)


def test_weights_that_are_not_there_are_an_error() -> None:
    model = llava().model
    model.model.multi_modal_projector.to("meta")
    with pytest.raises(PatchError, match="offloaded"):
        projector_digest(model)


def test_a_codebook_written_again_is_the_same_file(tmp_path: Path) -> None:
    """A schedule names its digest, and a study's record the schedule."""
    prototypes, path = torch.randn(3, 64), tmp_path / "book.safetensors"
    made = [write_prototypes(path, prototypes, "some projector") for _ in range(8)]
    assert len(set(made)) == 1
    assert torch.equal(load_file(path)["prototypes"], prototypes)
