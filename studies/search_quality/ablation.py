"""What parts of the default search are worth: searches of the tables without one of them.

python studies/search_quality/ablation.py --tables old whole --seeds 5
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from unittest.mock import patch

from benchmark import budgets, found_at, markdown, searched, shares
from fronts import Worth
from rich.progress import track

from autoprune.search.policy import gaussian, records

NOTHING = 1e-12
VARIANTS: Mapping[str, Sequence[tuple[ModuleType, str, float]]] = {
    "default": (),
    "all hard rows at once": ((records, "FIRST", 10**6),),
    "no linear part": ((gaussian, "_LINEAR_SHARE", NOTHING),),
}
"""The constants that are set, by variant."""


@contextmanager
def variant(name: str) -> Iterator[None]:
    """The package as a variant has it."""
    with ExitStack() as stack:
        for module, constant, value in VARIANTS[name]:
            stack.enter_context(patch.object(module, constant, value))
        yield


def found(table: str, name: str, seed: int) -> list[Worth]:
    """What one search has found at each budget."""
    with variant(name):
        return found_at(table, searched(table, "gp", seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["old", "whole"])
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    for table in given.tables:
        lines = [["search", *(budget.title for budget in budgets(table))]]
        for name in VARIANTS:
            runs = [found(table, name, seed) for seed in track(range(given.seeds), f"{table}, {name}")]
            lines.append([name, *(shares(table, at_budget) for at_budget in zip(*runs, strict=True))])
        print(f"\n### {table}\n\n{markdown(lines)}")


if __name__ == "__main__":
    main()
