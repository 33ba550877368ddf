"""Schedules on one recorded batch, each common first stage run once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoprune.evaluate.candidate import CandidateRun, Decoding, RecordedBatch
from autoprune.evaluate.prefix import Node, Replay, Replayer
from autoprune.evaluate.trie import Branch


@dataclass(frozen=True)
class Walk:
    """A walk through all stages of some schedules on one batch, depth first.

    Attributes:
        batch: The batch.
        runs: Of the schedules.
        decoding: Answers that wait to be decoded on.
    """

    batch: RecordedBatch
    runs: Sequence[CandidateRun]
    decoding: Decoding

    def through(self, trees: Sequence[Branch]) -> None:
        """Runs all schedules of some trees.

        Raises:
            EvaluationError: non-finite logits.
            PatchError: a criterion cannot be computed on this batch.
        """
        prefix = self.batch.dense_pass
        for tree in trees:
            for place in tree.ends:
                self.runs[place].add_dense(self.batch)
            if tree.branches:
                with prefix.replaying() as replayer:
                    self._below(replayer, tree, prefix.root())
        self.decoding.finish()

    def _below(self, replayer: Replayer, branch: Branch, node: Node) -> None:
        for child in branch.branches.values():
            if not child.branches:
                self._take(replayer, child, replayer.run(child.schedule, node))
                continue
            end = replayer.depth if child.ends else max(stage.layer for stage in child.next_stages)
            below, replay = replayer.extend(child.schedule, node, end, child.keys)
            self._take(replayer, child, replay)
            self._below(replayer, child, below)

    def _take(self, replayer: Replayer, branch: Branch, replay: Replay) -> None:
        for place in branch.ends:
            self.runs[place].add(self.batch, replay)
        if self.decoding.is_due:
            with replayer.suspended():
                self.decoding.finish()
