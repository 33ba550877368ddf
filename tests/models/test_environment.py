"""Hardware and versions that stand beside every figure."""

from __future__ import annotations

import platform

import pytest
import torch

from autoprune.models.environment import hardware, versions


def test_the_machine_has_a_processor_with_cores_and_no_gpu_unless_the_model_is_on_one() -> None:
    facts = hardware(torch.device("cpu"))
    assert list(facts) == ["cpu", "cores", "gpu"]
    assert facts["cpu"]
    assert facts["cores"] >= 1
    assert facts["gpu"] is None
    assert facts == hardware()


def test_the_name_of_the_gpu_that_the_model_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    assert hardware(torch.device("cuda:1"))["gpu"] == "card 1"


def test_packages_that_are_not_installed_have_no_version() -> None:
    assert versions(["torch", "no-such-package"]).keys() == {"python", "torch"}
    assert versions([]) == {"python": platform.python_version()}
