"""How much the layer of a withdrawal sweep depends on which rows happen to be looked at.

    python studies/digit_scenes/withdrawal.py       one sweep of the calibration rows, then draws of 20 to 128 of them

With `--study` the same of another study's model, and with `--save` the curves and what the draws took, as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoprune.analysis import WithdrawalSweep, withdrawal_sweep
from autoprune.analysis.withdrawal.layer_choice import ETA, robust, vtw_compat
from autoprune.analysis.withdrawal.study import WithdrawalCurve
from autoprune.data.samples import SampleSet, load_samples
from autoprune.evaluate.encoding import encode
from autoprune.models.loading import load_model

HERE = Path(__file__).parent
DRAWS, DRAWN = 200, (20, 64, 128)

Taken = Counter[int | None]
"""How many draws take a layer; None = no layer qualifies."""


def choices(swept: WithdrawalSweep, groups: list[str]) -> dict[str, dict[str, Taken]]:
    """The layers that both rules take of all rows, and of draws of some rows, by number of rows and rule."""
    first, answer = swept.first.withdrawn_dense.numpy(), swept.answer.dense_withdrawn.numpy()
    noise, clusters = swept.noise.dense_withdrawn.numpy(), np.array(groups)
    rng = np.random.default_rng(0)
    everything = np.arange(len(groups))
    found = {}
    for rows in (*(count for count in DRAWN if count < len(groups)), len(groups)):
        whole = rows == len(groups)
        drawn = [everything] if whole else [rng.choice(everything, rows, replace=False) for _ in range(DRAWS)]
        found["all" if whole else str(rows)] = {
            "vtw-compat": Counter(vtw_compat(first[index]) for index in drawn),
            "robust": Counter(robust(answer[index], noise[index], clusters[index].tolist()) for index in drawn),
        }
    return found


def saved(swept: WithdrawalSweep, groups: list[str], taken: dict[str, dict[str, Taken]]) -> dict[str, Any]:
    """Curves and choices as a JSON object; the layer None is called ``none``."""
    return {
        "rows": len(groups),
        "eta": ETA,
        "first": asdict(WithdrawalCurve.over(swept.first.withdrawn_dense.numpy(), groups)),
        "answer": asdict(WithdrawalCurve.over(swept.answer.dense_withdrawn.numpy(), groups)),
        "same": swept.same.mean(0).tolist(),
        "noise": float(swept.noise.dense_withdrawn.mean()),
        "taken": {
            rows: {rule: {"none" if k is None else str(k): n for k, n in counts.items()} for rule, counts in by.items()}
            for rows, by in taken.items()
        },
    }


def counts(taken: Taken) -> str:
    return ", ".join(f"{k} × {taken[k]}" for k in sorted(taken, key=lambda k: (k is None, k)))


def by_task(swept: WithdrawalSweep, data: SampleSet) -> str:
    first, tasks = swept.first.withdrawn_dense.numpy(), np.array([sample.task for sample in data])
    lines = [
        f"{task} alone ({(tasks == task).sum()} rows): vtw-compat {vtw_compat(first[tasks == task])}"
        for task in sorted(set(tasks.tolist()))
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=HERE, help="folder of model/ and calibration.jsonl")
    parser.add_argument("--rows", type=int, help="rows to draw; default: all")
    parser.add_argument("--max-new-tokens", type=int, default=8)
    parser.add_argument("--save", type=Path, help="JSON file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load_model(given.study / "model")
    data = load_samples(given.study / "calibration.jsonl", samples=given.rows)
    swept = WithdrawalSweep.cat(
        [
            withdrawal_sweep(loaded.model, [encode(loaded.processor, [sample])], max_new_tokens=given.max_new_tokens)
            for sample in data
        ]
    )
    groups = [sample.group for sample in data]
    taken = choices(swept, groups)
    if given.save:
        given.save.write_text(json.dumps(saved(swept, groups, taken), indent=1) + "\n")
    print(f"eta {ETA}; layers taken in {DRAWS} draws, None = no layer qualifies\n")
    for rows, by in taken.items():
        print(f"{rows} rows: vtw-compat {counts(by['vtw-compat'])}; robust {counts(by['robust'])}")
    print(f"\n{by_task(swept, data)}")


if __name__ == "__main__":
    main()
