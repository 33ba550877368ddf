import pytest
import support.zoo as zoo
from support.rows import absent
from transformers import LlamaConfig

from autoprune.models.capabilities import layers_without_attention, missing_sources
from autoprune.runtime.decoder import attention_of, decoder_layers, find_decoder
from autoprune.schedule.criteria import Reads


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "internvl", "deepseek_ocr2", "kosmos2"])
def test_a_tower_with_attention_is_not_ruled_out(family: str) -> None:
    assert missing_sources(getattr(zoo, family)().model.config) == {}


@pytest.mark.parametrize("family", ["fuyu", "chameleon"])
def test_a_model_without_a_tower_of_attention_cannot_be_scored_by_it(family: str) -> None:
    assert list(missing_sources(getattr(zoo, family)().model.config)) == [Reads.TOWER]


def test_a_text_model_has_no_tower() -> None:
    assert Reads.TOWER in missing_sources(LlamaConfig())


@pytest.mark.parametrize("family", ["llava", "gemma3", "lfm2_vl", "lfm3_vl", "qwen3_5", "qwen3_5_moe"])
def test_layers_without_attention_are_told_by_the_config_as_by_the_model(family: str) -> None:
    if absent(family):
        pytest.skip("this transformers has none")
    model = {**zoo.FAMILIES, **zoo.HYBRIDS}[family].build().model
    decoder = find_decoder(model)
    found = {i for i, layer in enumerate(decoder_layers(decoder)) if attention_of(decoder, layer) is None}
    assert layers_without_attention(model.config) == found
    assert bool(found) == (family in zoo.HYBRIDS)
