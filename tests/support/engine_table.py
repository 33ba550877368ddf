"""The tables of README.md and autoprune/engines/README.md, from what engines declare: what works, what is refused.

python -m support.engine_table
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import LlavaConfig

from autoprune.engines.export.refusals import check_schedule
from autoprune.engines.vllm import refusals
from autoprune.engines.vllm.serving import OPTION, Serving, named_schedule, serving_of
from autoprune.errors import ScheduleError
from autoprune.schedule import Schedule

COLUMNS = ("transformers", "vLLM, prompts", "vLLM, layers", "ONNX Runtime")


@dataclass(frozen=True)
class StageKind:
    """A kind of stage.

    Attributes:
        words: In the table.
        layers: Where it can stand.
        stages: The same kind in all of its variants.
    """

    words: str
    layers: tuple[int, ...]
    stages: tuple[dict[str, Any], ...]


def _kind(words: str, layers: tuple[int, ...], *criteria: dict[str, Any] | None, **stage: Any) -> StageKind:
    chosen = {"keep": {"ratio": 0.5}, **stage}
    return StageKind(words, layers, tuple({**chosen, **({"criterion": c} if c else {})} for c in criteria))


def _attention(*rows: str, **options: str) -> list[dict[str, Any]]:
    return [{"name": "attention", "rows": name, **options} for name in rows]


_ROWS = ("last", "text", "visual", "all")
_CODEBOOK = {"name": "codebook", "path": "c.safetensors", "sha256": "0" * 64}
_PLAIN: tuple[dict[str, Any], ...] = ({"name": "uniform"}, {"name": "random", "seed": 0}, {"name": "diversity"})
KINDS = (
    _kind("withdrawal (`ratio: 0`)", (0, 2), None, keep={"ratio": 0.0}),
    _kind("`uniform`, `random`, `diversity`", (0, 2), *_PLAIN),
    _kind("the same with `merge: mean`", (0, 2), *_PLAIN, merge="mean"),
    _kind("`codebook`", (0,), _CODEBOOK),
    _kind(
        "`attention`, every set of `rows`, `combine`",
        (2,),
        *_attention(*_ROWS, "raters"),
        *_attention("text", combine="visual"),
    ),
    _kind("`attention` with `at: current`", (0, 2), *_attention(*_ROWS, at="current")),
    _kind("`encoder`", (0, 2), {"name": "encoder"}),
    StageKind(
        "keep rules `mass`, `threshold`",
        (2,),
        tuple(
            {"keep": keep, "criterion": c} for keep in ({"mass": 0.9}, {"threshold": 0.1}) for c in _attention(*_ROWS)
        ),
    ),
)


def cells(kind: StageKind) -> tuple[str, ...]:
    """For each engine, where a kind of stage works: everywhere, before layer 0 only, or not at all."""
    works: Sequence[Callable[[Schedule], bool]] = (
        lambda schedule: True,
        partial(_in_vllm, Serving.PROMPTS),
        partial(_in_vllm, Serving.LAYERS),
        _compiles,
    )
    return tuple(_where(kind, check) for check in works)


def _where(kind: StageKind, works: Callable[[Schedule], bool]) -> str:
    found = [layer for layer in kind.layers if all(_works(stage, layer, works) for stage in kind.stages)]
    if not found:
        return "no"
    return "yes" if len(found) == len(kind.layers) else "before layer 0"


def _works(stage: dict[str, Any], layer: int, works: Callable[[Schedule], bool]) -> bool:
    """In any kind of positions."""
    return any(
        works(Schedule.model_validate({"stages": [{"layer": layer, **stage}], "positions": positions}))
        for positions in ("keep", "compact")
    )


def _in_vllm(serving: Serving, schedule: Schedule) -> bool:
    config = LlavaConfig()
    setattr(config, OPTION, schedule.to_json_dict())
    try:
        found = named_schedule(config)
    except ScheduleError:
        return False
    return found is not None and serving_of(found, 1, shortens="compact") is serving


def _compiles(schedule: Schedule) -> bool:
    try:
        check_schedule(schedule)
    except ScheduleError:
        return False
    return True


def where_table() -> str:
    """What works where."""
    lines = [f"| stage | {' | '.join(COLUMNS)} |", "|" + "---|" * (len(COLUMNS) + 1)]
    return "\n".join([*lines, *(f"| {kind.words} | {' | '.join(cells(kind))} |" for kind in KINDS)])


def refused_table() -> str:
    """Options of vLLM that are refused, and where."""
    groups = {"always": refusals.ANYWHERE, "prompts": refusals.PROMPTS, "layers": refusals.LAYERS}
    lines = ["| option | refused | because | remedy |", "|---|---|---|---|"]
    for where, rows in groups.items():
        lines += [f"| `{row.name}` | {where} | {row.why} | {row.remedy} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(f"{where_table()}\n\n{refused_table()}\n")
