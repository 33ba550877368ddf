"""Schedules on one recorded batch, each common first stage run once."""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.evaluate.candidate import CandidateRun, Decoding, RecordedBatch
from autoprune.evaluate.prefix import Node, Replay, Replayer, first_layer
from autoprune.evaluate.sharing import Sharing
from autoprune.evaluate.trie import Branch


class Walk:
    """A walk through all stages of some schedules on one batch, depth first.

    Args:
        batch: The batch.
        replayer: Runs the schedules.
        runs: Of the schedules.
        decoding: Answers that wait to be decoded on.
        most_bytes: Memory for recorded passes besides the dense one; what does not fit is not shared.

    Attributes:
        sharing: Work so far.
    """

    def __init__(
        self,
        batch: RecordedBatch,
        replayer: Replayer,
        runs: Sequence[CandidateRun],
        decoding: Decoding,
        most_bytes: int,
    ) -> None:
        self.sharing = Sharing()
        self._batch, self._replayer, self._runs, self._decoding = batch, replayer, runs, decoding
        self._spare = most_bytes

    def through(self, trees: Sequence[Branch]) -> None:
        """Runs all schedules of some trees; unfinished answers are left to `decoding`.

        Raises:
            EvaluationError: non-finite logits.
            PatchError: a criterion cannot be computed on this batch.
        """
        prefix = self._batch.dense_pass
        for tree in trees:
            for place in tree.ends:
                self._runs[place].add_dense(self._batch)
            if tree.branches:
                self._below(tree, self._replayer.over(prefix))

    def _below(self, branch: Branch, node: Node) -> None:
        for child in branch.branches.values():
            if not child.branches:
                self._take(child, self._replayer.run(child.schedule, node), node)
                continue
            end = self._replayer.depth if child.ends else max(stage.layer for stage in child.next_stages)
            if self._replayer.bytes_of(node, child.schedule, end) > self._spare:
                if child.ends:
                    self._take(child, self._replayer.run(child.schedule, node), node)
                self._below(child, node)
                continue
            below, replay = self._replayer.extend(child.schedule, node, end, child.keys)
            held = below.nbytes_beside(node)
            self._take(child, replay, node, end)
            self._spare -= held
            self._below(child, below)
            self._spare += held

    def _take(self, branch: Branch, replay: Replay, start: Node, end: int | None = None) -> None:
        depth, first = self._replayer.depth, first_layer(branch.schedule, start)
        from_dense = branch.schedule.stages[0].layer

        def work(entry: int, end: int = depth) -> int:
            return self._batch.dense_pass.token_layers(replay.counts, range(entry, end))

        copies = len(branch.ends)
        self.sharing += Sharing(work(first, end or depth), copies * work(from_dense), copies * work(0))
        for place in branch.ends:
            self._runs[place].add(self._batch, replay)
        if self._decoding.is_due:
            with self._replayer.suspended():
                self._decoding.finish()
