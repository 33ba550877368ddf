"""Measures every schedule of a grid on the calibration rows of its study, in pieces that can be interrupted.

    python studies/search_quality/table.py compute whole --pieces DIR     measures what DIR lacks
    python studies/search_quality/table.py compute whole --pieces DIR --from-the-end     a second process
    python studies/search_quality/table.py join whole --pieces DIR        writes studies/search_quality/whole.npz
    python studies/search_quality/table.py check whole --count 100        against generate() under the patch

A piece holds the schedules that share a first stage; it is the same whenever and in whatever order it is measured.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from grid import GRIDS, Grid, families
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from verdicts import Preset, Table

from autoprune import presets
from autoprune.data.samples import SampleSet, load_samples
from autoprune.errors import AutopruneError
from autoprune.evaluate.encoding import encode
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.generate import generate_and_score
from autoprune.evaluate.results import SampleResult
from autoprune.models.loading import LoadedModel, load_model
from autoprune.models.options import ModelOptions
from autoprune.pricing.cost import CONVENTION
from autoprune.schedule import Criterion, Schedule
from autoprune.search.space import SearchSpace

HERE = Path(__file__).parent
BATCH, NEW_TOKENS = 16, 32
NO_FAMILY = "presets"


@dataclass(frozen=True)
class Piece:
    """Schedules that are measured together.

    Attributes:
        name: Of its file.
        schedules: What is measured.
    """

    name: str
    schedules: tuple[Schedule, ...]


def preset_schedules(depth: int) -> dict[str, Schedule]:
    """The published methods that fit a model of this depth, by name."""
    found = {}
    for name in presets.NAMES:
        try:
            found[name] = presets.for_depth(name, depth)
        except AutopruneError:  # too shallow
            continue
    return found


def pieces(space: SearchSpace, depth: int) -> list[Piece]:
    """The presets, dense among them, and then the families of the space."""
    rest = [Piece(f"{number:04d}", family) for number, family in enumerate(families(space))]
    return [Piece(NO_FAMILY, tuple(preset_schedules(depth).values())), *rest]


def calibration_rows(grid: Grid) -> SampleSet:
    """The rows that a grid is measured on."""
    rows = load_samples(grid.study / "calibration.jsonl")
    return SampleSet.of(rows[: grid.rows], f"{grid.study.name}/calibration.jsonl")


def visual_tokens_of(loaded: LoadedModel, rows: SampleSet) -> int:
    """Visual tokens of each row; here all have as many."""
    ids = encode(loaded.processor, rows)["input_ids"]
    (count,) = set((ids == loaded.config.image_token_id).sum(1).tolist())
    return int(count)


def criteria_of(schedules: Sequence[Schedule]) -> list[Criterion]:
    """The criteria that some schedules use."""
    return list(dict.fromkeys(s.criterion for schedule in schedules for s in schedule.stages if s.criterion))


class Measurer:
    """The model on the rows, and the folder of what is measured.

    Args:
        loaded: The model.
        rows: The rows.
        space: What is to be measured.
        folder: Where pieces are.

    Raises:
        SystemExit: the folder holds pieces of another grid, model or data.
    """

    def __init__(self, loaded: LoadedModel, rows: SampleSet, space: SearchSpace, folder: Path) -> None:
        self.num_layers: int = loaded.config.get_text_config(decoder=True).num_hidden_layers
        self.pieces = pieces(space, self.num_layers)
        self._folder = folder
        self.about = {
            "model": loaded.fingerprint,
            "data": rows.digest,
            "rows": len(rows),
            "batch": BATCH,
            "convention": CONVENTION,
        }
        folder.mkdir(parents=True, exist_ok=True)
        known = folder / "about.json"
        wanted = {**self.about, "schedules": [s.key for piece in self.pieces for s in piece.schedules]}
        if known.exists() and json.loads(known.read_text()) != wanted:
            raise SystemExit(f"table.py: {folder} holds another grid, model or data: choose another --pieces")
        _write(known, json.dumps(wanted).encode())
        every = [schedule for piece in self.pieces for schedule in piece.schedules]
        self._evaluator = Evaluator(
            loaded, rows, batch_size=BATCH, max_new_tokens=NEW_TOKENS, criteria=criteria_of(every)
        )

    def file(self, piece: Piece) -> Path:
        """Where a piece is once it is measured."""
        return self._folder / f"{piece.name}.npz"

    def measure(self, piece: Piece) -> None:
        """Measure a piece and write its file."""
        results = self._evaluator.evaluate_many(piece.schedules)
        place = self.file(piece)
        partial = place.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(partial, verdicts=np.packbits(_verdicts(results), axis=1), flops=_flops(results))
        partial.replace(place)


def _verdicts(results: Sequence[Sequence[SampleResult]]) -> NDArray[np.bool_]:
    return np.array([[bool(result.correct) for result in row] for row in results])


def _flops(results: Sequence[Sequence[SampleResult]]) -> NDArray[np.int64]:
    return np.array([sum(result.flops for result in row) for row in results], np.int64)


def _write(path: Path, content: bytes) -> None:
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


def compute(measurer: Measurer, *, from_the_end: bool = False) -> None:
    """Measure what the folder lacks; a second process may do the same from the other end."""
    waiting = measurer.pieces[::-1] if from_the_end else measurer.pieces
    columns = TextColumn("schedules"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns) as progress:
        task = progress.add_task("", total=sum(len(piece.schedules) for piece in waiting))
        for piece in waiting:
            if not measurer.file(piece).exists():
                measurer.measure(piece)
            progress.advance(task, len(piece.schedules))


def join(measurer: Measurer, space: SearchSpace, rows: SampleSet, visual_tokens: int) -> Table:
    """The table of measured pieces.

    Raises:
        SystemExit: pieces are missing.
    """
    missing = [piece for piece in measurer.pieces if not measurer.file(piece).exists()]
    if missing:
        count = sum(len(piece.schedules) for piece in missing)
        raise SystemExit(f"table.py: {count} schedules are not measured yet: run compute again")
    parts = [np.load(measurer.file(piece)) for piece in measurer.pieces]
    bits = [np.unpackbits(part["verdicts"], axis=1, count=len(rows)).astype(bool) for part in parts]
    names = [(schedule.evidence["preset"], schedule) for schedule in measurer.pieces[0].schedules]
    first = names.index(next(item for item in names if not item[1].stages))
    dense_flops = int(parts[0]["flops"][first])
    known = zip(names, bits[0], parts[0]["flops"], strict=True)
    return Table(
        space=space,
        schedules=tuple(schedule for piece in measurer.pieces[1:] for schedule in piece.schedules),
        verdicts=np.concatenate(bits[1:]),
        flops=np.concatenate([part["flops"] for part in parts[1:]]),
        dense=bits[0][first],
        dense_flops=dense_flops,
        tasks=tuple(str(row.task) for row in rows),
        groups=tuple(row.group for row in rows),
        presets=tuple(
            Preset(name, schedule, verdicts, int(flops) / dense_flops)
            for (name, schedule), verdicts, flops in known
            if schedule.stages
        ),
        num_layers=measurer.num_layers,
        visual_tokens=visual_tokens,
        about=measurer.about,
    )


def check(table: Table, loaded: LoadedModel, rows: SampleSet, count: int, seed: int = 0) -> list[str]:
    """Compare some schedules of a table with ``generate()`` under the patch; one line for each that differs."""
    drawn = np.random.default_rng(seed).choice(len(table.schedules), count, replace=False)
    lines = []
    with Progress() as progress:
        for place in progress.track(drawn.tolist(), description="checked"):
            results = [generate_and_score(loaded, rows, table.schedules[place], BATCH, max_new_tokens=NEW_TOKENS)]
            wrong = int((_verdicts(results)[0] != table.verdicts[place]).sum())
            if wrong or _flops(results)[0] != table.flops[place]:
                lines.append(f"{wrong} verdicts of {table.schedules[place].to_json_dict()['stages']} differ")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["compute", "join", "check"])
    parser.add_argument("grid", choices=list(GRIDS))
    parser.add_argument("--pieces", type=Path, help="folder of what is measured (compute, join)")
    parser.add_argument("--from-the-end", action="store_true", help="compute: begin with the last piece")
    parser.add_argument("--count", type=int, default=100, help="check: how many schedules are drawn, at most all")
    parser.add_argument("--seed", type=int, default=0, help="check: of the draw")
    arguments = parser.parse_args()
    if arguments.command != "check" and arguments.pieces is None:
        parser.error(f"{arguments.command} needs --pieces")
    grid = GRIDS[arguments.grid]
    rows, loaded = calibration_rows(grid), load_model(grid.study / "model", ModelOptions(dtype="float32"))
    output = HERE / f"{arguments.grid}.npz"
    if arguments.command == "check":
        table = Table.load(output)
        count = min(arguments.count, len(table.schedules))
        lines = check(table, loaded, rows, count, arguments.seed)
        print("\n".join([*lines, f"{len(lines)} of {count} schedules differ"]))
        return
    measurer = Measurer(loaded, rows, grid.space, arguments.pieces)
    if arguments.command == "compute":
        compute(measurer, from_the_end=arguments.from_the_end)
    else:
        join(measurer, grid.space, rows, visual_tokens_of(loaded, rows)).save(output)
        print(f"{output}: {output.stat().st_size / 2**20:.2f} MB")


if __name__ == "__main__":
    main()
