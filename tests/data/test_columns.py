"""Columns that no field takes: listed, or one error where dropping them would change what is measured."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from autoprune.data.samples import load_samples
from autoprune.errors import DataError


@pytest.fixture
def load(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")

    def loaded(columns=None, **row):
        path = tmp_path / "data.jsonl"
        path.write_text(json.dumps({"image": "0.png", "prompt": "x", **row}) + "\n")
        return load_samples(path, columns=columns)

    return loaded


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("Answers", "answers"),
        ("answrs", "answers"),
        ("Choices", "choices"),
        ("image_2", "image"),
        ("message", "messages"),
        ("system", "messages"),
        ("conversations", "messages"),
    ],
)
def test_a_column_that_was_meant_for_a_field_is_an_error(load, column, field):
    with pytest.raises(DataError) as caught:
        load(**{column: "y"})
    assert f"'{column}': did you mean `{field}`?" in str(caught.value)
    assert caught.value.field == "data.columns"
    assert "columns" in caught.value.remedy


def test_all_of_them_are_named_at_once(load):
    with pytest.raises(DataError, match=r"'Answers'.*'system'"):
        load(Answers="y", system="z")


def test_metadata_of_a_data_set_is_listed_and_no_error(load):
    names = ["image_id", "question_id", "answer_type", "difficulty", "idx", "source", "width"]
    assert load(**dict.fromkeys(names, "y")).unread == tuple(names)
    assert load(id="a", group="g", task="t").unread == ()


def test_a_mapped_column_is_read(load):
    data = load(columns={"answers": "Answers"}, Answers=["y"])
    assert (data[0].answers, data.unread) == (("y",), ())
