"""Every kind of model with which transformers reads images is in the contract suite or refused, and documented so.

Nothing here builds a model: the tables of autoprune/runtime/README.md are compared with the zoo's registry and configs.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
from support.family_table import EXACT, FAMILY_ROWS, KINDS, SECTION, kind_of, table
from support.refused import REFUSED
from support.versions import needs
from support.zoo import FAMILIES, HYBRIDS
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from autoprune.pricing.architecture import Architecture

pytestmark = needs("5.23", "the tables hold newer families too")

ZOO = {**FAMILIES, **HYBRIDS}
OTHER_TEXT_MODELS = {("llava_next", "mistral"), ("mistral3", "mistral4")}  # than that of the default config
REFUSED_BY_TEXT_MODEL = {"gemma3n"}  # test_structure.py
UNTESTED = {"fast_vlm"}  # its tower needs timm


def test_every_kind_is_exact_or_refused() -> None:
    exact = KINDS | {text for _, text in EXACT}
    others = set(REFUSED) | REFUSED_BY_TEXT_MODEL | UNTESTED
    assert not set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES) - exact - others
    assert not KINDS & others


def test_the_table_of_families_is_the_zoo() -> None:
    assert {kind_of(row) for row in ZOO} == KINDS
    inputs = defaultdict(set)
    for name, row in ZOO.items():
        inputs[kind_of(name)].add(row.inputs)
    for kinds, _, listed, _, special in FAMILY_ROWS:
        assert set(listed.split(", ")) == set().union(*(inputs[kind] for kind in kinds.split(", "))), kinds
        assert special, kinds


@pytest.mark.parametrize(("kind", "text"), sorted(EXACT - OTHER_TEXT_MODELS))
def test_the_text_model_is_that_of_the_config(kind: str, text: str) -> None:
    assert AutoConfig.for_model(kind).get_text_config(decoder=True).model_type == text


@pytest.mark.parametrize(("kind", "text"), sorted(EXACT))
def test_every_decoder_of_the_table_has_a_price(kind: str, text: str) -> None:
    assert Architecture.from_config(AutoConfig.for_model(text if (kind, text) in OTHER_TEXT_MODELS else kind)).layers


def test_the_table_of_refusals_is_the_list_of_refused_kinds() -> None:
    names = defaultdict(set)
    for kind, refused in REFUSED.items():
        names[refused.reason].add(kind)
    assert table("| Refused | Because |") == sorted(
        [", ".join(sorted(kinds)), reason] for reason, kinds in names.items()
    )
    assert all(f"`{name}`" in SECTION for name in REFUSED_BY_TEXT_MODEL | UNTESTED)
