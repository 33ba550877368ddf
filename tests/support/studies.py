"""Study files for tests: a folder with a config-only model and data files, and a spec of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from transformers import LlamaConfig

from autoprune.search.spec import StudySpec

BACKEND = "support.fake_backend"


def write_study(folder: Path, **sections: Any) -> Path:
    """A study file that is valid; `sections` replace or add top-level keys, None removes one."""
    folder.mkdir(parents=True, exist_ok=True)
    LlamaConfig(num_hidden_layers=8, hidden_size=16, num_attention_heads=2).save_pretrained(folder / "model")
    for name in ("calibration", "validation"):
        (folder / f"{name}.jsonl").write_text("{}\n")
    study: dict[str, Any] = {
        "name": "tiny",
        "model": {"path": "model"},
        "data": {"calibration": {"path": "calibration.jsonl"}, "validation": {"path": "validation.jsonl"}},
        "space": {"criteria": ["last", "text", "visual"]},
        "baselines": ["vtw", "fastv", "himap", "pyramiddrop"],
        "search": {"trials": 10},
        "workers": {"count": 0},
        "output": "run",
    }
    study |= sections
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in study.items() if v is not None}), encoding="utf-8")
    return file


def tiny_spec(folder: Path, **sections: Any) -> StudySpec:
    """The study of `write_study`, loaded."""
    return StudySpec.load(write_study(folder, **sections))
