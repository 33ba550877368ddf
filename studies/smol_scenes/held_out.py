"""What pruning does to this model on held-out rows, in the tables that no command of the project makes.

    python studies/smol_scenes/held_out.py presets withdrawal criteria codebook claims

The run folder must hold what other commands wrote (outcome.md names them): sweep.json for `withdrawal`,
codebook-schedule.json for `codebook`, and both, with flow.json, for `claims`. Each table is printed,
and written to NAME.txt there. Results are kept there too, so that a table is told again at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "digit_scenes"))  # the tables that both studies have

from claims import LONG, claims  # noqa: E402
from codebook import table as codebook_table  # noqa: E402
from judging import Results, lost, told  # noqa: E402
from measured import HeldOut  # noqa: E402
from tradeoff import criteria as criteria_table  # noqa: E402
from tradeoff import percent, table  # noqa: E402

from autoprune import Schedule, presets  # noqa: E402
from autoprune.evaluate.results import summarise  # noqa: E402
from autoprune.report.words import stage_short  # noqa: E402

KINDS = {
    "one look": ("color", "kind", "place", "present", "count", "side", "neighbor"),
    "chained": ("larger", "sum", "extreme", "successor"),
    "several words": LONG,
}
"""Types of questions that are told together: a single one has 11 rows of 160."""
LAYERS, KEEP = (2, 12), 0.1
"""Of the table of criteria."""


def withdrawal(study: HeldOut) -> str:
    """Loss by layer of withdrawal, and beside it what VTW goes by."""
    swept = study.read("sweep.json")
    dense, *measured = study.measure([presets.dense(), *map(presets.vtw, study.withdrawals)])
    right, _, *kinds = accuracies(dense, dense)
    lines = [["dense", "100.0", right, "–", *kinds, "0", "0", "100.0"]]
    for k, results in zip(study.withdrawals, measured, strict=True):
        kl = [f"{swept[name]['mean'][k]:.2g}" for name in ("first", "answer")]
        lines.append([str(k), flops(results), *accuracies(dense, results), *kl, percent(swept["same"][k])])
    header = ["withdraw before", "FLOPs %", "accuracy %", "loses [95 %]", *KINDS]
    return table([*header, "KL, first token", "KL, answer", "same answer %"], lines)


def published(study: HeldOut) -> str:
    """Every preset at this depth, and the schedule that was found for digit_scenes."""
    found = presets.mapped(Schedule.load(HERE.parent / "digit_scenes" / "schedule.json"), study.depth)
    named = {name: presets.for_depth(name, study.depth) for name in presets.NAMES if name != "dense"}
    return listed(study, {**named, "digit_scenes' schedule, mapped": found})


def criteria(study: HeldOut) -> str:
    """One stage that keeps little, by layer and by who chooses."""
    return criteria_table(study.measure, LAYERS, KEEP)


def codebook(study: HeldOut) -> str:
    """The codebook's trade-off, beside other choices before the decoder."""
    return codebook_table(study.measure, study.book, (0.5, 0.2, 0.1))


def listed(study: HeldOut, named: Mapping[str, Schedule]) -> str:
    """Markdown: schedules with their stages, cost and loss."""
    dense, *measured = study.measure([presets.dense(), *named.values()])
    lines = [
        [name, "; ".join(map(stage_short, schedule.stages)), flops(results), *accuracies(dense, results)]
        for (name, schedule), results in zip(named.items(), measured, strict=True)
    ]
    return table(["schedule", "stages", "FLOPs %", "accuracy %", "loses [95 %]", *KINDS], lines)


def flops(results: Results) -> str:
    return percent(summarise(results).flops_ratio)


def accuracies(dense: Results, results: Results) -> list[str]:
    """Accuracy over all, its loss with the interval, and accuracy by kind of question."""
    kinds = [[r.correct for r in results if r.task in tasks] for tasks in KINDS.values()]
    shares = [percent(sum(right) / len(right)) if right else "–" for right in kinds]
    return [percent(summarise(results).accuracy), told(lost(dense, results)), *shares]


def main(argv: Sequence[str] | None = None) -> None:
    tables: dict[str, Callable[[HeldOut], str]] = {
        "withdrawal": withdrawal,
        "presets": published,
        "criteria": criteria,
        "codebook": codebook,
        "claims": claims,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", choices=list(tables))
    parser.add_argument("--model", type=Path, default=HERE / "model")
    parser.add_argument("--data", type=Path, default=HERE / "test.jsonl")
    parser.add_argument("--rows", type=int, default=160, help="rows to draw")
    parser.add_argument("--run", type=Path, default=HERE.parent.parent / "runs" / "smol-scenes")
    given = parser.parse_args(argv)
    study = HeldOut.opened(given.model, given.data, given.rows, given.run)
    for name in given.tables:
        text = tables[name](study)
        (given.run / f"{name}.txt").write_text(f"{text}\n")
        print(f"\n{name}\n\n{text}", flush=True)


if __name__ == "__main__":
    main()
