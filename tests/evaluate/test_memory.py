"""Memory of prepared batches: bounded by one budget, whatever the number of rows; results do not depend on it."""

from __future__ import annotations

import dataclasses
import gc

import pytest
import torch
from support.scenes import save_rows

from autoprune import presets
from autoprune.data.samples import load_samples
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.memory import BatchMemory
from autoprune.schedule import parse_criterion

CRITERIA = [parse_criterion(name) for name in ("last", "text")]
SCHEDULES = [presets.himap((1, 3), (0.5, 0.2)), presets.vtw(3)]
LENGTH = 4


def _rows(folder, count):
    folder.mkdir()
    return load_samples(save_rows(folder, count))


def _live() -> dict[int, torch.Tensor]:
    """All tensors of the process, by their storage."""
    gc.collect()
    found = (value for value in gc.get_objects() if type(value) is torch.Tensor)
    return {tensor.untyped_storage().data_ptr(): tensor for tensor in found}


def _evaluator(loaded, data, cache_bytes, **options):
    return Evaluator(
        loaded, data, batch_size=6, max_new_tokens=LENGTH, criteria=CRITERIA, cache_bytes=cache_bytes, **options
    )


def test_many_rows_hold_no_more_than_few(loaded, tmp_path):
    """All tensors that the process gains: pixels, features, embeddings, logits, layer outputs, caches, scores."""
    roomy = _evaluator(loaded, _rows(tmp_path / "6", 6), 2**30)
    roomy.prepare()
    one_batch = max(batch.nbytes for batch in roomy._batches)
    budget, gained = 400_000, {}
    for count in (12, 60):
        evaluator, before = _evaluator(loaded, _rows(tmp_path / str(count), count), budget), _live()
        evaluator.evaluate_many(SCHEDULES)
        evaluator.evaluate(SCHEDULES[0], range(0, count, 5))  # regroups
        new = [tensor for key, tensor in _live().items() if key not in before]
        assert not [tensor for tensor in new if tensor.ndim == 4 and tensor.shape[1] == 3]  # pixels
        gained[count] = sum(tensor.untyped_storage().nbytes() for tensor in new)
    assert one_batch * 60 / 6 > 3 * budget
    assert gained[60] <= budget + one_batch + 60 * 1000  # 1 kB for the answers to a row
    assert gained[60] < 1.5 * gained[12]


@pytest.mark.parametrize("cache_bytes", [1, 1_000_000])
def test_what_fell_out_comes_back_the_same(loaded, data, cache_bytes):
    rich, poor = _evaluator(loaded, data, 2**30), _evaluator(loaded, data, cache_bytes)
    assert poor.evaluate_many(SCHEDULES) == rich.evaluate_many(SCHEDULES)
    assert poor.evaluate_many(SCHEDULES) == rich.evaluate_many(SCHEDULES)
    rows = [2, 7, 3, 11]
    for some, same in zip(poor.evaluate_many(SCHEDULES, rows), rich.evaluate_many(SCHEDULES, rows), strict=True):
        for one, other in zip(some, same, strict=True):
            assert one.kl == pytest.approx(other.kl, abs=2e-5)
            assert dataclasses.replace(one, kl=0.0) == dataclasses.replace(other, kl=0.0)
    assert (poor.near_ties, poor.prompts) == (rich.near_ties, rich.prompts)


def test_images_are_encoded_again_only_where_their_features_do_not_fit(loaded, data):
    evaluator = _evaluator(loaded, data, 2**30)
    evaluator.prepare()
    passes = [batch.dense_pass.recorded.nbytes for batch in evaluator._batches]
    features = sum(batch.nbytes for batch in evaluator._batches) - sum(passes)
    for budget, again in ((features + max(passes), False), (1, True)):
        tight, encoded = _evaluator(loaded, data, budget), []
        tight.prepare()
        handle = loaded.model.model.vision_tower.register_forward_hook(lambda *call, seen=encoded: seen.append(call))
        try:
            tight.evaluate_many(SCHEDULES)
        finally:
            handle.remove()
        assert bool(encoded) == again


class _Held:
    def __init__(self, name):
        self.name, self.parts = name, 2

    @property
    def nbytes(self):
        return 10 * self.parts


def _drop_to(parts):
    def drop(batch):
        batch.parts = min(batch.parts, parts)

    return drop


def test_what_was_used_last_goes_first_and_what_is_cheap_before_what_is_dear():
    batches = [_Held(i) for i in range(4)]
    memory = BatchMemory(50, (_drop_to(1), _drop_to(0)))
    for batch in batches:
        memory.keep(batch)
        assert memory.nbytes <= 50
    assert [batch.parts for batch in batches] == [1, 1, 1, 2]
    memory = BatchMemory(20, (_drop_to(1), _drop_to(0)))
    for batch in batches:
        batch.parts = 2
        memory.keep(batch)
    assert [batch.parts for batch in batches] == [0, 0, 0, 2]
    memory = BatchMemory(30, (_drop_to(1), _drop_to(0)))
    for batch in batches:
        batch.parts = 2
        memory.keep(batch)
    assert [batch.parts for batch in batches] == [1, 0, 0, 2]  # the first one stays


def test_a_batch_that_nobody_knows_any_more_holds_nothing():
    memory, batch = BatchMemory(100, ()), _Held(0)
    memory.keep(batch)
    assert memory.nbytes == 20
    del batch
    gc.collect()
    assert memory.nbytes == 0
