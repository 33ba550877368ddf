"""How much the layer of a withdrawal sweep depends on which rows happen to be looked at.

python studies/digit_scenes/withdrawal.py       one sweep of the 256 calibration rows, then draws of 20 to 128 of them
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch

from autoprune.analysis import WithdrawalSweep, withdrawal_sweep
from autoprune.analysis.withdrawal.layer_choice import ETA, robust, vtw_compat
from autoprune.data.samples import load_samples
from autoprune.evaluate.encoding import encode
from autoprune.models.loading import load_model

HERE = Path(__file__).parent
DRAWS, NEW_TOKENS = 200, 8


def main() -> None:
    torch.set_num_threads(1)
    loaded = load_model(HERE / "model")
    data = load_samples(HERE / "calibration.jsonl")
    swept = WithdrawalSweep.cat(
        [
            withdrawal_sweep(loaded.model, [encode(loaded.processor, [sample])], max_new_tokens=NEW_TOKENS)
            for sample in data
        ]
    )
    first, answer = swept.first.withdrawn_dense.numpy(), swept.answer.dense_withdrawn.numpy()
    noise = swept.noise.dense_withdrawn.numpy()
    groups = np.array([sample.group for sample in data])
    tasks = np.array([sample.task for sample in data])
    print(f"eta {ETA}; layers taken in {DRAWS} draws, None = no layer qualifies\n")
    rng = np.random.default_rng(0)
    for rows in (20, 64, 128):
        drawn = [rng.choice(len(data), rows, replace=False) for _ in range(DRAWS)]
        vtw = Counter(vtw_compat(first[index]) for index in drawn)
        ours = Counter(robust(answer[index], noise[index], groups[index].tolist()) for index in drawn)
        print(f"{rows} rows: vtw-compat {_counts(vtw)}; robust {_counts(ours)}")
    print()
    for task in sorted(set(tasks)):
        print(f"{task} alone ({(tasks == task).sum()} rows): vtw-compat {vtw_compat(first[tasks == task])}")


def _counts(taken: Counter[int | None]) -> str:
    return ", ".join(f"{k} × {taken[k]}" for k in sorted(taken, key=lambda k: (k is None, k)))


if __name__ == "__main__":
    main()
