"""Inputs and answers beside what a processor adds to them by itself."""

from __future__ import annotations

import pytest
from support.checkpoints import CHECKPOINTS
from support.checkpoints.rows import save_rows
from transformers import AutoConfig

from autoprune.data.samples import load_samples
from autoprune.evaluate.encoding import choice_tokens, encode
from autoprune.models.processors import load_processor


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return load_samples(save_rows(tmp_path_factory.mktemp("rows"), "rows", seed=0))


@pytest.fixture(scope="module")
def paligemma(tmp_path_factory):
    folder = CHECKPOINTS["paligemma"].save(tmp_path_factory.mktemp("paligemma"))
    return load_processor(folder, AutoConfig.from_pretrained(folder))


def test_labels_of_a_processor_do_not_reach_the_model(paligemma, rows):
    assert "labels" not in encode(paligemma, rows)


def test_choices_follow_the_line_end_that_the_processor_writes(paligemma, rows):
    [sample] = [row for row in rows if row.choices == ("yes", "no")]
    prompt = encode(paligemma, [sample])["input_ids"][0].tolist()
    assert paligemma.tokenizer.decode(prompt).endswith("\n")
    pieces = [paligemma.tokenizer.convert_ids_to_tokens(tokens) for tokens in choice_tokens(paligemma, sample)]
    assert ["".join(of) for of in pieces] == ["yes", "no"]  # no space, no line end of their own
