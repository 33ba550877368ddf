"""Greedy answers by the model's own generate()."""

from __future__ import annotations

import pytest
from support.zoo import FAMILIES

from autoprune.errors import ModelError
from autoprune.evaluate.greedy import generate_greedy


def test_a_generate_that_cannot_be_followed_is_one_error() -> None:
    zoo = FAMILIES["janus"].build()
    with pytest.raises(ModelError, match="ignores logits processors"):
        generate_greedy(zoo.model, zoo.inputs, 2, 0)
