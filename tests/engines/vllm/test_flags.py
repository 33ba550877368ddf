"""What is not finite is noticed: by which requests, and without a step that waits for it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from autoprune.engines.vllm.flags import FiniteScores
from autoprune.engines.vllm.groups import PromptGroups
from autoprune.engines.vllm.scores import SeenLayer
from autoprune.engines.vllm.steps import DroppedTokens, ScheduledRequest
from autoprune.errors import PatchError
from autoprune.runtime.tap import Softmax
from autoprune.schedule import Keep, Schedule


def test_requests_whose_scores_are_not_finite_are_named_later() -> None:
    seen = FiniteScores()
    seen.expect(torch.tensor([False, False]), ["a", "b"])
    seen.check()
    seen.expect(torch.tensor([False, True]), ["c", "d"])
    with pytest.raises(PatchError, match="requests d are not finite"):
        seen.check()
    seen.check()  # it was said
    images = FiniteScores("images")
    images.expect(torch.tensor([True]), ["0 of 1"])
    with pytest.raises(PatchError, match="of the images 0 of 1 are not finite"):
        images.check()


def test_a_device_that_is_not_there_yet_is_not_waited_for() -> None:
    seen, ready = FiniteScores(), SimpleNamespace(query=lambda: False)
    seen._pending.append((torch.tensor([True]), ready, ("a",)))
    seen.check()
    ready.query = lambda: True
    with pytest.raises(PatchError, match="requests a are"):
        seen.check()


@pytest.mark.parametrize("row", [2, 13], ids=["of the first", "of the second"])
@pytest.mark.parametrize("what", ["state", "key"])
def test_what_is_not_finite_is_found_in_its_request(row, what) -> None:
    criterion = {"name": "diversity"} if what == "state" else {"name": "attention", "rows": "last"}
    stage = {"layer": 1, "keep": {"ratio": 0.5}, "criterion": criterion}
    schedule = Schedule.model_validate({"format": "autoprune.schedule", "version": 1, "stages": [stage]})
    requests = [ScheduledRequest(name, 10, 0, 10, ((1, 8),)) for name in ("a", "b")]
    plan = DroppedTokens((Keep(ratio=0.5),)).plan(requests, {"a", "b"})
    states, query, key = torch.randn(20, 8), torch.randn(20, 2, 8), torch.randn(20, 2, 8)
    (states if what == "state" else key)[row] = float("inf")
    batch = PromptGroups(plan, {}, torch.device("cpu"))
    batch.choose(schedule.stages[0], 0, states, SeenLayer(query, key, Softmax()))
    flags, names = batch.broken
    assert dict(zip(names, flags.tolist(), strict=True)) == {"a": row < 10, "b": row >= 10}
