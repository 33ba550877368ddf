"""Scores and choices for the prompts of one step, side by side: what `autoprune.runtime` does for a padded batch.

Rows of a step have no batch axis. Prompts that are pruned in it are laid out here as one, [P, S + 1]: what fills up a
shorter prompt points to the last column, which is no token of any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from autoprune.engines.vllm.flags import on_device
from autoprune.engines.vllm.steps import Ints, ScheduledRequest, StepPlan
from autoprune.runtime.criteria import ScoreInputs, behaviour_of
from autoprune.runtime.criteria.attention import rater_rows, text_rows
from autoprune.runtime.survivors import choose, merged, places
from autoprune.runtime.tap import Softmax
from autoprune.schedule import Criterion, Reads, Stage


class SeenLayer(NamedTuple):
    """Attention of one layer in a step, after rotary embedding.

    Attributes:
        query: [T, H, d].
        key: [T, H_kv, d].
        softmax: How products become weights.
    """

    query: Tensor
    key: Tensor
    softmax: Softmax


class PromptBatch:
    """The prompts that one step prunes, and which of their tokens are left.

    Args:
        plan: The step.
        prepared: What criteria have read from disk.
        device: Of the model.

    Attributes:
        names: Names of the P requests.
        broken: BoolTensor[P], whether visual tokens were chosen by what is not finite.
    """

    def __init__(self, plan: StepPlan, prepared: Mapping[Criterion, Tensor], device: torch.device) -> None:
        self._plan, self._prepared = plan, prepared
        requests = [plan.requests[i] for i in plan.pruned]
        self.names = tuple(r.name for r in requests)
        self._n_prompt = tuple(r.n_prompt for r in requests)
        self._n_visual = tuple(r.n_visual for r in requests)
        self._n_text = tuple(_text_after_visual(r) for r in requests)
        self._most = max(r.rows for r in requests)
        visual = torch.zeros(len(requests), self._most + 1, dtype=torch.bool)
        for row, request in zip(visual, requests, strict=True):
            for start, end in request.visual:
                row[start:end] = True
        column = torch.arange(self._most + 1)
        ends = torch.tensor(self._n_prompt)[:, None]
        self.visual = on_device(visual, device)
        self._prompt = on_device(column < ends, device)
        self._last = on_device(column == ends - 1, device)
        self.alive = on_device(column < torch.tensor([r.rows for r in requests])[:, None], device)
        self.broken = torch.zeros(len(requests), dtype=torch.bool, device=device)
        # Row by row of the step: its prompt, and its column there; of rows of no prompt the last and the first.
        first = plan.segments[0]
        owner = torch.full((len(first.rows),), len(requests))
        owner[list(plan.pruned)] = torch.arange(len(requests))
        owner = owner.repeat_interleave(torch.from_numpy(first.rows))
        self.owner = on_device(owner, device)
        self.column = on_device(torch.from_numpy(first.places) * (owner < len(requests)), device)
        self._raters: Tensor | None = None

    def find_raters(self, embeddings: Tensor) -> None:
        """Note the words that match the images.

        Args:
            embeddings: [T, d], the rows of the step as they enter the decoder.
        """
        words = text_rows(self._prompt, self.visual)
        laid_out = self._lay_out(embeddings)
        self._raters = rater_rows(laid_out, self.visual, words, max(self._n_visual), max(self._n_text))

    def choose(self, stage: Stage, number: int, hidden: Tensor, seen: SeenLayer | None) -> Tensor:
        """Drop what a stage drops.

        Args:
            stage: The stage.
            number: Its number.
            hidden: [T, d], the states that enter its layer.
            seen: The attention that its criterion reads.

        Returns:
            BoolTensor[T], the rows that go on.
        """
        before = tuple(left[number] for left in self._plan.alive)
        after = tuple(left[number + 1] for left in self._plan.alive)
        candidates = self.visual & self.alive
        if stage.withdraws:
            kept = torch.zeros_like(candidates)
        else:
            assert stage.criterion is not None  # a stage that selects has one
            inputs = self._inputs(stage.criterion, number, before, after, hidden, seen)
            scores = behaviour_of(stage.criterion).score(inputs)
            kept = choose(scores, candidates, inputs.targets)
            unfit = self._lay_out(~torch.isfinite(hidden).all(1, keepdim=True))[:, :, 0] | ~torch.isfinite(scores)
            self.broken = self.broken | (unfit & candidates).any(1)
        self._kept, self._candidates, self._counts = kept, candidates, (before, after)
        self.alive = self.alive & (~candidates | kept)
        always = torch.ones_like(self.alive[:1])  # rows of no prompt
        return torch.cat([self.alive, always])[self.owner, self.column]

    def merged(self, hidden: Tensor) -> Tensor:
        """States [T, d] in which tokens that the last choice kept are means of themselves and of those like them."""
        before, after = self._counts
        most_dropped = max(b - a for b, a in zip(before, after, strict=True))
        dropped = self._candidates & ~self._kept
        new = merged(self._lay_out(hidden), self._kept, dropped, max(after), most_dropped)
        changed = (self.owner < len(self.visual))[:, None]
        spare = torch.cat([new, new[:1]])
        return torch.where(changed, spare[self.owner, self.column], hidden)

    def go_on(self, rows: Tensor) -> None:
        """Note which rows are left.

        Args:
            rows: LongTensor[n], their indices.
        """
        self.owner, self.column = self.owner[rows], self.column[rows]

    def _lay_out(self, rows: Tensor) -> Tensor:
        """[P, S + 1, d]: the rows of the prompts; the places of tokens that were dropped, and the spare one, are 0."""
        out = rows.new_zeros(len(self.visual) + 1, self._most + 1, rows.shape[1])
        out[self.owner, self.column] = rows
        return out[:-1]

    def _inputs(
        self,
        criterion: Criterion,
        number: int,
        before: tuple[int, ...],
        after: tuple[int, ...],
        hidden: Tensor,
        seen: SeenLayer | None,
    ) -> ScoreInputs:
        fields: dict[str, Any] = {}
        if seen is not None:
            # The layer that is read lies behind all stages before this one, so its rows are those of this segment.
            segment = self._plan.segments[number]
            fields = self._read(seen, segment.starts[list(self._plan.pruned)], segment.rows[list(self._plan.pruned)])
        candidates = self.visual & self.alive
        return ScoreInputs(
            options=criterion,
            candidates=candidates,
            visual=self.visual,
            prompt=self._prompt,
            alive=self.alive,
            last=self._last,
            targets=on_device(torch.tensor(after), candidates.device),
            n_visual=self._n_visual,
            n_text=self._n_text,
            n_prompt=self._n_prompt,
            n_candidates=before,
            n_targets=after,
            hidden=self._lay_out(hidden if criterion.reads is Reads.STATES else hidden[:, :0]),
            raters=self._raters,
            prepared=self._prepared.get(criterion),
            **fields,
        )

    def _read(self, seen: SeenLayer, starts: Ints, counts: Ints) -> dict[str, Any]:
        device = seen.query.device
        first, n = torch.from_numpy(starts)[:, None], torch.from_numpy(counts)[:, None]
        step = torch.arange(int(counts.max()))
        present = on_device(step < n, device)
        rows = on_device(first + torch.minimum(step, n - 1), device)
        index = torch.where(present, self.column[rows], self._most)
        return {
            "query": seen.query[rows].transpose(1, 2),
            "key": seen.key[rows].transpose(1, 2),
            "softmax": seen.softmax,
            "index": index,
            "present": present,
        }


def rows_where(mask: Tensor, count: int) -> Tensor:
    """LongTensor[count]: where a mask [T] is true, ascending, without a look at the device."""
    return places(mask[None], count)[0]


def _text_after_visual(request: ScheduledRequest) -> int:
    """Prompt tokens behind the first visual one that are not visual."""
    return request.n_prompt - request.visual[0][0] - request.n_visual
