import pytest
import support.zoo as zoo
from transformers import LlamaConfig

from autoprune.models.capabilities import missing_sources
from autoprune.schedule.criteria import Reads


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "internvl", "deepseek_ocr2", "kosmos2"])
def test_a_tower_with_attention_is_not_ruled_out(family: str) -> None:
    assert missing_sources(getattr(zoo, family)().model.config) == {}


@pytest.mark.parametrize("family", ["fuyu", "chameleon"])
def test_a_model_without_a_tower_of_attention_cannot_be_scored_by_it(family: str) -> None:
    assert list(missing_sources(getattr(zoo, family)().model.config)) == [Reads.TOWER]


def test_a_text_model_has_no_tower() -> None:
    assert Reads.TOWER in missing_sources(LlamaConfig())
