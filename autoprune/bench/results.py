"""Results of a benchmark, as values and as one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from autoprune.bench.workload import Memory
from autoprune.evaluate.timing import Spread

DEFINITIONS = {
    "decoder_ms": "prefill of the text model alone: decoder layers, their masks and rotary embeddings, the last norm, "
    "and all that autoprune adds; no vision tower, no projector, no head",
    "prefill_ms": "decoder_ms and the head on one row",
    "decode_ms": "one token more, head included, mean over the decode steps of a run",
    "memory": "of the prefill; growth is above what was held before it, the weights among it",
    "kv_bytes": "keys and values in the cache after the last decode step; kv_bytes_plan is what autoprune.cost says",
    "flops_ratio": "decoder layers over the whole prompt, text included, plus scoring; pruned / dense (autoprune.cost)",
    "time_ratio": "decoder_ms, pruned / dense, per round",
    "saved_ratio": "time saved / FLOPs saved: (1 - time_ratio) / (1 - flops_ratio)",
    "floor": "the stock layers on as many tokens, cut off the end: nothing scored, gathered or written back",
    "scorer": "pruned - the same layers, counts and merging, evenly spaced survivors: the price of the scores",
    "gather": "evenly spaced survivors - floor: choosing, gathering, scattering, masks, cache and hooks",
    "decode": "decode_ms, pruned - floor: the hooks of a decode step, with caches of the same lengths",
    "keep_all": "the same layers and criteria with every token chosen - dense: scores and hooks where nothing drops",
}
"""What each figure means."""


@dataclass(frozen=True)
class Overhead:
    """Additional time that one arm takes over another, in the same round.

    Attributes:
        ms: Milliseconds.
        share: The same as a share of the dense run of that round.
    """

    ms: Spread
    share: Spread

    @classmethod
    def of(cls, longer: Sequence[float], shorter: Sequence[float], dense: Sequence[float]) -> Overhead:
        """From times of the same rounds."""
        extra = [a - b for a, b in zip(longer, shorter, strict=True)]
        return cls(Spread.of(extra), Spread.of([e / d for e, d in zip(extra, dense, strict=True)]))


@dataclass(frozen=True)
class Arm:
    """The dense or the pruned model.

    Attributes:
        prefill_ms: Text model and head on one row.
        decoder_ms: Text model alone.
        decode_ms: One more token; None without decode steps.
        memory: Peak memory of the prefill.
        kv_bytes: Bytes in the cache after the last step, measured.
        kv_bytes_plan: What `autoprune.cost` says they are; None for a decoder that has no price.
    """

    prefill_ms: Spread
    decoder_ms: Spread
    decode_ms: Spread | None
    memory: Memory
    kv_bytes: int
    kv_bytes_plan: int | None


@dataclass(frozen=True)
class PrunedTimes:
    """A schedule beside the dense run.

    Attributes:
        name: What the user called it.
        stages: Its stages.
        visual_tokens: Visual tokens in each layer, the most of any sample.
        arm: What was measured.
        flops_ratio: Pruned / dense; None for a decoder that has no price.
        kv_ratio: Bytes of the cache, pruned / dense, measured.
        time_ratio: Decoder time, pruned / dense.
        saved_ratio: Time saved / FLOPs saved; None if no FLOPs are saved or known.
        floor_ratio: Decoder time of the floor / dense.
        floor_saved_ratio: Time saved / FLOPs saved of the floor: what this machine lets any implementation reach.
        overheads: ``scorer``, ``gather``, ``keep_all`` (of the prefill) and ``decode`` (of one token), see
            `DEFINITIONS`; None for what was not run: scoring of a schedule that scores nothing, decode without steps.
    """

    name: str
    stages: list[dict[str, Any]]
    visual_tokens: list[int]
    arm: Arm
    flops_ratio: float | None
    kv_ratio: float
    time_ratio: Spread
    saved_ratio: Spread | None
    floor_ratio: Spread
    floor_saved_ratio: Spread | None
    overheads: dict[str, Overhead | None]


@dataclass(frozen=True)
class Setting:
    """One batch size and number of visual tokens."""

    batch_size: int
    visual_tokens: int
    text_tokens: int
    new_tokens: int
    dense: Arm
    pruned: list[PrunedTimes]


@dataclass(frozen=True)
class Benchmark:
    """Results of a benchmark, one for each setting.

    Attributes:
        settings: What was measured.
        machine: The hardware, how much of it was used, and its load (runnable processes) when the benchmark began.
        unpriced: Why there are no FLOPs, for a decoder that `autoprune.cost` does not know; else empty.
        convention: How FLOPs are counted.
    """

    settings: list[Setting]
    machine: dict[str, Any]
    unpriced: str
    convention: str

    def to_dict(self) -> dict[str, Any]:
        """The benchmark as a JSON object."""
        return {**asdict(self), "definitions": DEFINITIONS}
