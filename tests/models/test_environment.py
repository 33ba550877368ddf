"""Hardware and versions that stand beside every figure."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from autoprune.models import environment
from autoprune.models.environment import free_bytes, hardware, versions


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


def test_free_memory_is_that_of_the_machine_or_of_the_group_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / name for name in ("meminfo", "max", "current")]
    monkeypatch.setattr(environment, "_MEMORY", files[0])
    monkeypatch.setattr(environment, "_GROUP", tuple(files[1:]))
    cpu = [torch.device("cpu")]
    assert free_bytes(cpu) is None
    files[0].write_text("MemTotal: 900 kB\nMemAvailable:  600 kB\n")
    files[1].write_text("max\n")
    files[2].write_text("1000\n")
    assert free_bytes(cpu) == 600 * 1024
    files[1].write_text("5000\n")
    assert free_bytes(cpu) == 4000


def test_free_memory_of_gpus_is_that_of_those_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * (device.index + 1), 100))
    used = [torch.device("cuda:0"), torch.device("cuda:2"), torch.device("cuda:0")]
    assert free_bytes(used) == 10 + 30
    assert free_bytes([torch.device("cuda:0"), torch.device("cpu")]) is None  # offloaded: not told
