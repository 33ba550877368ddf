"""How samples are put into batches."""

from __future__ import annotations

from support.scenes import save_rows

from autoprune.data.samples import load_samples
from autoprune.evaluate.encoding import encode
from autoprune.evaluate.planning import plan_batches, prompt_lengths


def test_lengths_are_those_of_the_encoded_prompts(loaded, data):
    expected = [int(encode(loaded.processor, [sample])["attention_mask"].sum()) for sample in data]
    assert prompt_lengths(loaded.processor, list(data)) == expected


def test_every_doubling_of_the_order_is_whole_batches(loaded, tmp_path):
    data = load_samples(save_rows(tmp_path, 20))
    order = list(reversed(range(20)))
    batches = plan_batches(loaded.processor, data, order, 4)
    assert sorted(index for batch in batches for index in batch) == list(range(20))
    for end in (4, 8, 16):
        asked = set(order[:end])
        assert all(asked.issuperset(batch) or asked.isdisjoint(batch) for batch in batches)
    lengths = prompt_lengths(loaded.processor, list(data))
    last = [index for batch in batches if set(batch) <= set(order[8:16]) for index in batch]
    assert [lengths[i] for i in last] == sorted(lengths[i] for i in last)


def test_choices_take_a_row_each(loaded, tmp_path):
    data = load_samples(save_rows(tmp_path, 5, answers=None, choices=["red", "blue", "no"], answer=0))
    batches = plan_batches(loaded.processor, data, range(5), 7)
    assert max(map(len, batches)) == 2
    assert [len(b) for b in plan_batches(loaded.processor, data, range(5), 2)] == [1] * 5
