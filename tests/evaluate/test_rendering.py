"""Prompts through chat templates: verbatim, or one error that names the row."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from support.scenes import TEMPLATE, tiny_processor

from autoprune.data.samples import load_samples
from autoprune.errors import DataError, ModelError
from autoprune.evaluate.encoding import encode
from autoprune.evaluate.rendering import render

VERBATIM = (
    "{% for m in messages %}[{{ m['role'] }}]{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)
TEXT_ONLY_SYSTEM = (
    "{% for m in messages %}[{{ m['role'] }}]{% if m['role'] == 'system' %}{{ m['content'] + '' }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endif %}{% endfor %}"
)


@pytest.fixture
def row(tmp_path):
    Image.new("RGB", (24, 24)).save(tmp_path / "0.png")

    def loaded(**fields):
        path = tmp_path / "data.jsonl"
        rows = [{"image": "0.png", "prompt": "what color"}, fields]
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        return load_samples(path)[1]

    return loaded


def test_a_prompt_is_rendered_to_the_letter(row):
    sample = row(images=["0.png", "0.png"], prompt="First: <image>\nand second:<image> Compare \n")
    text = render(tiny_processor(VERBATIM), sample)
    assert text == "[user]First: <image>\nand second:<image> Compare \n"


def test_messages_are_rendered_in_order(row):
    chat = [
        {"role": "system", "content": "Be brief. "},
        {"role": "user", "content": "<image>what"},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": "and now?"},
    ]
    text = render(tiny_processor(VERBATIM), row(image="0.png", messages=chat))
    assert text == "[system]Be brief. [user]<image>what[assistant]red[user]and now?"


def test_a_template_that_takes_texts_alone_gets_texts(row):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "what"}]
    assert render(tiny_processor(TEXT_ONLY_SYSTEM), row(messages=chat)) == "[system]Be brief.[user]what"


def test_no_template_is_one_error_with_a_remedy(row):
    with pytest.raises(ModelError, match="has no chat template") as caught:
        render(tiny_processor(None), row(image="0.png", prompt="what"))
    assert "chat_template.jinja" in caught.value.remedy


def test_models_that_are_made_for_bare_prompts_get_them(row):
    class PaliGemmaProcessor:
        chat_template, image_token = None, "<image>"

    assert render(PaliGemmaProcessor(), row(image="0.png", prompt=" what\n")) == "<image> what\n"
    with pytest.raises(DataError, match="row 1: PaliGemmaProcessor has no chat template, it takes one message"):
        render(PaliGemmaProcessor(), row(messages=[{"role": "user", "content": "a"}] * 2))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('System role not supported') }}", "refuses it: System role not supported"),
        ("{{ messages[0]['content'] + 1 }}", "refuses it"),
        (TEMPLATE.replace("{{ part['text'] }}", ""), "leaves out 'what'"),
    ],
)
def test_a_template_that_does_not_take_a_row_names_it(row, template, words):
    with pytest.raises(DataError, match=f"row 1: the model's chat template {words}") as caught:
        render(tiny_processor(template), row(image="0.png", prompt="what"))
    assert caught.value.field == "prompt"
    assert caught.value.remedy


def test_videos_are_refused_by_the_name_of_a_processor_that_takes_none(row):
    with pytest.raises(DataError, match="row 1: LlavaProcessor takes no videos") as caught:
        encode(tiny_processor(), [row(video=["0.png", "0.png"], prompt="what")])
    assert "`images`" in caught.value.remedy


def test_rows_with_and_without_an_image_make_one_batch(row):
    inputs = encode(tiny_processor(), [row(prompt="what color"), row(image="0.png", prompt="what")])
    assert (inputs["input_ids"] == 4).sum(1).tolist() == [0, 16]
    assert len(inputs["pixel_values"]) == 1
    assert "pixel_values" not in encode(tiny_processor(), [row(prompt="what color")])
