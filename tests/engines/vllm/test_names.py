"""Names of weights of a CLIP tower that was saved without one of its levels."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from autoprune.engines.vllm.names import with_flat_tower


@dataclass(frozen=True)
class Mapper:
    """Stands for vLLM's: prefixes that fit are replaced one after the other."""

    orig_to_new_prefix: dict[str, str] = field(default_factory=dict)
    orig_to_new_suffix: dict[str, str] = field(default_factory=dict)

    def mapped(self, name: str) -> str:
        for prefix, new in self.orig_to_new_prefix.items():
            name = name.replace(prefix, new, 1) if name.startswith(prefix) else name
        return name


KNOWN = Mapper({"model.vision_tower.": "vision_tower.", "model.language_model.": "language_model.model."}, {"a": "b"})


@pytest.mark.parametrize("part", ["embeddings.x", "encoder.layers.0.y", "pre_layrnorm.weight", "post_layernorm.weight"])
@pytest.mark.parametrize("level", ["", "model."])
def test_a_flat_tower_gets_its_level(part, level) -> None:
    made = with_flat_tower(KNOWN)
    assert made.mapped(f"{level}vision_tower.{part}") == f"vision_tower.vision_model.{part}"


def test_all_other_names_are_as_before() -> None:
    made = with_flat_tower(KNOWN)
    assert made.mapped("model.vision_tower.vision_model.encoder.x") == "vision_tower.vision_model.encoder.x"
    assert made.mapped("model.language_model.norm.weight") == "language_model.model.norm.weight"
    assert made.orig_to_new_suffix == KNOWN.orig_to_new_suffix
    assert len(KNOWN.orig_to_new_prefix) == 2  # it is not changed
