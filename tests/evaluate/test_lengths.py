"""Prompts that are too long are refused by row, before the model runs: for the model, and for the free memory."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from support.scenes import save_rows

from autoprune.data.samples import SampleSet, load_samples
from autoprune.errors import DataError
from autoprune.evaluate import lengths
from autoprune.evaluate.encoding import encode
from autoprune.evaluate.lengths import check_lengths, least_bytes
from autoprune.evaluate.planning import prompt_lengths


def lengthened(tmp_path, count=4, **words):
    """Rows, of which some have so many words more."""
    path = save_rows(tmp_path, count)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, more in words.items():
        rows[int(number.removeprefix("row"))]["prompt"] += " w1" * more
    path.write_text("".join(json.dumps({**row, "id": f"r{i}"}) + "\n" for i, row in enumerate(rows)))
    return load_samples(path)


def test_the_first_row_beyond_the_maximum_is_named_with_the_others_counted(loaded, tmp_path):
    data = lengthened(tmp_path, row1=300, row3=400)
    tokens = encode(loaded.processor, [data[1]])["input_ids"].shape[1]
    assert tokens > 256
    with pytest.raises(DataError, match=r"prompt of row r1 has .* 256 .max_position_embeddings.; 1 further") as raised:
        check_lengths(loaded, data)
    assert raised.value.value == f"{tokens} tokens"
    assert "shorten the prompt" in raised.value.remedy


def test_image_tokens_count_and_the_maximum_itself_fits(loaded, tmp_path):
    data = lengthened(tmp_path)
    most = 256 - prompt_lengths(loaded.processor, [data[0]])[0]
    check_lengths(loaded, lengthened(tmp_path, row0=most))
    with pytest.raises(DataError, match="row r0 has 257 tokens"):
        check_lengths(loaded, lengthened(tmp_path, row0=most + 1))


def test_a_model_without_a_maximum_takes_any_length(loaded, tmp_path, monkeypatch):
    monkeypatch.setattr(type(loaded.config), "get_text_config", lambda config, **options: SimpleNamespace())
    monkeypatch.setattr(lengths, "free_bytes", lambda devices: None)
    check_lengths(loaded, lengthened(tmp_path, row0=1000))


def test_what_the_free_memory_cannot_hold_is_refused(loaded, tmp_path, monkeypatch):
    data = lengthened(tmp_path, row2=100)
    longest = max(prompt_lengths(loaded.processor, data))
    monkeypatch.setattr(lengths, "free_bytes", lambda devices: least_bytes(loaded, longest - 1))
    with pytest.raises(DataError, match=f"row r2 has {longest} tokens.*enough for {longest - 1} ") as raised:
        check_lengths(loaded, data)
    assert raised.value.field == "prompt"
    check_lengths(loaded, SampleSet.of([data[0], data[1]], "others"))
    monkeypatch.setattr(lengths, "free_bytes", lambda devices: None)  # the system does not say
    check_lengths(loaded, data)


def test_eager_attention_takes_the_square(loaded):
    model, tokens = loaded.model, 1000
    by_kernel = {}
    for kernel in ("sdpa", "eager"):
        model.set_attn_implementation(kernel)
        by_kernel[kernel] = least_bytes(loaded, tokens)
    model.set_attn_implementation("sdpa")
    keys_and_values = 6 * tokens * 2 * 2 * 8 * 4  # layers, tokens, both, heads, width, bytes
    assert by_kernel["sdpa"] == keys_and_values + 2 * tokens * 32 * 4
    assert by_kernel["eager"] - by_kernel["sdpa"] == 4 * tokens**2 * 8  # heads; the weights, and in full precision
