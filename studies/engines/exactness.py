"""Schedules in vLLM beside autoprune on transformers: model by schedule by mode.

    python studies/engines/exactness.py OUT.json [--rows 64] [--only MODEL] [--modes NAME ...] [--schedules NAME ...]

Needs vLLM 0.32 beside autoprune. One line of the table per case; OUT.json is written again after each. The dense models
are run once per mode, and all schedules of a mode are compared with the same rows. digit_scenes is trained; the other
models are tiny and have random weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DIGITS = HERE.parent / "digit_scenes"
sys.path += [str(HERE.parents[1]), str(HERE.parents[1] / "tests")]

from support import vllm_models  # noqa: E402

from autoprune.data.images import ImageSource  # noqa: E402
from autoprune.data.rows import Sample  # noqa: E402
from autoprune.engines.vllm.comparison.agreement import CHECKS, ComparedRuns, disagreement  # noqa: E402
from autoprune.engines.vllm.comparison.asked import EngineAnswer  # noqa: E402
from autoprune.engines.vllm.comparison.examine import EngineCase, engine_case, with_rounding  # noqa: E402
from autoprune.engines.vllm.comparison.settings import EngineSettings, check_vllm  # noqa: E402
from autoprune.engines.vllm.comparison.sides import answers, in_vllm, on_transformers  # noqa: E402
from autoprune.errors import AutopruneError  # noqa: E402
from autoprune.models.options import ModelOptions  # noqa: E402
from autoprune.schedule import Schedule  # noqa: E402

SHORT = {"max_model_len": 512}
CACHED = {
    **SHORT,
    "enable_prefix_caching": True,
    "enable_chunked_prefill": True,
    "max_num_batched_tokens": 48,
    "block_size": 32,
}
"""Prompts in chunks, and blocks that later prompts use again."""
FEW = {**SHORT, "max_num_batched_tokens": 640}
"""Three or four prompts a step, so that most steps hold prompts beside answers."""


def stage(layer: int, keep: dict[str, float], criterion: str = "", **more: Any) -> dict[str, Any]:
    options = more.pop("options", {})
    name = {"name": criterion} if "rows" not in options else {"name": "attention"}
    chosen = {"criterion": {**name, **options}} if criterion or options else {}
    return {"layer": layer, "keep": keep, **chosen, **more}


def attention(layer: int, keep: dict[str, float], rows: str, **options: str) -> dict[str, Any]:
    return stage(layer, keep, options={"rows": rows, **options})


def schedule(*stages: dict[str, Any], **more: str) -> Schedule:
    return Schedule.model_validate({"stages": list(stages), **more})


def published(depth: int) -> dict[str, Schedule]:
    """The same kinds of schedules for a decoder of any depth."""
    first, second, third = max(1, depth // 6), max(2, depth // 2), depth - 2
    return {
        "uniform, prompts": schedule(stage(0, {"ratio": 0.33}, "uniform"), positions="compact"),
        "random, prompts": schedule(stage(0, {"ratio": 0.3}, "random", options={"seed": 2}), positions="compact"),
        "diversity, prompts": schedule(stage(0, {"ratio": 0.33}, "diversity"), positions="compact"),
        "uniform, original positions": schedule(stage(0, {"ratio": 0.33}, "uniform")),
        "withdrawal": schedule(stage(second, {"ratio": 0.0})),
        "last": schedule(attention(first, {"ratio": 0.5}, "last")),
        "text, visual": schedule(attention(first, {"ratio": 0.5}, "text"), attention(second, {"ratio": 0.2}, "visual")),
        "three stages": schedule(
            attention(first, {"ratio": 0.5}, "text"),
            attention(second, {"ratio": 0.25}, "visual"),
            attention(third, {"ratio": 0.1}, "all", normalize="causal"),
            positions="compact",
        ),
        "all, compact": schedule(attention(first, {"ratio": 0.4}, "all", normalize="causal"), positions="compact"),
        "diversity, merged, raters": schedule(
            stage(0, {"ratio": 0.7}, "diversity", merge="mean"), attention(third, {"ratio": 0.3}, "raters")
        ),
    }


@dataclass(frozen=True)
class Mode:
    """Rows and settings that several schedules are run with.

    Attributes:
        name: In the table.
        samples: The rows.
        schedules: By name.
        dtype: Number type.
        options: Arguments of `vllm.LLM`.
    """

    name: str
    samples: Sequence[Sample]
    schedules: Mapping[str, Schedule]
    dtype: str = "float32"
    options: Mapping[str, Any] = field(default_factory=lambda: FEW)


def digit_modes(rows: int) -> Iterator[Mode]:
    """The trained model on its test rows."""
    lines = [json.loads(line) for line in (DIGITS / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    images = [ImageSource(path=DIGITS / line["image"]) for line in lines]

    def sample(i: int, *shown: int) -> Sample:
        pictures = tuple(images[k % len(images)] for k in shown)
        return Sample(str(i), lines[i]["prompt"], pictures, (), None, None, None, str(i))

    one = [sample(i, i) for i in range(rows)]
    two = [sample(i, i, i + 50) for i in range(rows)]
    kinds = {**published(12), "found by the study": Schedule.load(DIGITS / "schedule.json")}
    shorter = {name: made for name, made in kinds.items() if name.endswith("prompts")}
    several = {name: kinds[name] for name in ("uniform, prompts", "random, prompts", "text, visual")}
    half = {name: kinds[name] for name in ("diversity, prompts", "three stages", "found by the study")}
    yield Mode("float32", one, kinds)
    yield Mode("float32, two images", two, several)
    yield Mode("float32, chunked prefill and prefix caching", one, shorter, options=CACHED)
    yield Mode("bfloat16", one, half, dtype="bfloat16")


def tiny_modes(family: str, rows: int, folder: Path) -> Iterator[Mode]:
    """A model with random weights on random images of several sizes."""
    one, two = (vllm_models.samples_of(family, folder, rows, images) for images in (1, 2))
    kinds = published(6)
    several = {name: kinds[name] for name in ("random, prompts", "uniform, original positions", "text, visual")}
    # On a CPU vLLM normalizes pixels of Qwen otherwise than transformers, pruned or not.
    options = {**FEW, "mm_device_do_normalize": False} if family == "qwen2_5_vl" else FEW
    yield Mode("float32", one, kinds, options=options)
    yield Mode("float32, two images", two, several, options=options)


def run(model: str, folder: str, modes: Iterable[Mode], only: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """One row of the table for each schedule of each mode."""
    for mode in modes:
        head = {"model": model, "mode": mode.name}
        loading = ModelOptions(dtype=mode.dtype)  # type: ignore[arg-type]  # one of them
        cases: dict[str, EngineCase] = {}
        for name in [name for name in mode.schedules if only is None or name in only]:
            try:
                cases[name] = engine_case(folder, loading, mode.schedules[name], mode.samples, mode.options)
            except AutopruneError as error:
                yield {**head, "schedule": name, "refused": str(error)}
        if not cases:
            continue
        reference: dict[str, list[EngineAnswer]] = {}
        with on_transformers(folder, loading) as ask:
            dense = answers(ask, "dense", mode.samples, Schedule())
            for name, case in cases.items():
                try:
                    reference[name] = answers(ask, name, mode.samples, case.schedule)
                except AutopruneError as error:
                    yield {**head, "schedule": name, "refused": str(error)}
        some = next(iter(cases.values()))
        with in_vllm("vLLM, dense", EngineSettings(some.options)) as ask:
            in_both = dense, answers(ask, "dense", some.prompts)
        for name, wanted in reference.items():
            case = cases[name]
            try:
                with in_vllm(f"vLLM, {name}", EngineSettings(case.options, case.schedule)) as ask:
                    pruned = wanted, answers(ask, name, case.prompts)
            except AutopruneError as error:
                yield {**head, "schedule": name, "refused": str(error)}
                continue
            runs = ComparedRuns(case.schedule, in_both, pruned, half=mode.dtype != "float32")
            runs = with_rounding(runs, case)
            yield {**head, "schedule": name, "serving": case.serving.value, **figures(runs)}


def figures(runs: ComparedRuns) -> dict[str, Any]:
    """What is told of a case."""
    pairs = {"dense": runs.dense, "pruned": runs.pruned, "effect": (runs.dense[0], runs.pruned[0])}
    return {
        "rows": len(runs.planned),
        **{kind: asdict(disagreement(*pair)) for kind, pair in pairs.items()},
        "other_rows": {
            kind: [row for row, (a, b) in enumerate(zip(*pair, strict=True)) if a.ids != b.ids]
            for kind, pair in pairs.items()
        },
        "largest_by_row": [disagreement([a], [b]).largest for a, b in zip(*runs.pruned, strict=True)],
        "rounding": dict(runs.rounding),
        "checks": {what: asdict(check(runs)) for what, check in CHECKS.items()},
    }


def main() -> None:
    """Run all cases, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--only", choices=("digit_scenes", "llava_next", "qwen2_5_vl"))
    parser.add_argument("--modes", nargs="+", help="Names; default: all.")
    parser.add_argument("--schedules", nargs="+", help="Names; default: all.")
    given = parser.parse_args()
    made: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for model in ("digit_scenes", "llava_next", "qwen2_5_vl"):
            if given.only not in (None, model):
                continue
            if model == "digit_scenes":
                folder, modes = DIGITS / "model", digit_modes(given.rows)
            else:
                folder = vllm_models.CHECKPOINTS[model].save(Path(place, model))
                modes = tiny_modes(model, given.rows, Path(place))
            asked = (mode for mode in modes if given.modes is None or mode.name in given.modes)
            for case in run(model, str(folder), asked, given.schedules):
                made.append(case)
                found = {"vllm": check_vllm(), "cases": made}
                given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
                sys.stdout.write(line(case) + "\n")
                sys.stdout.flush()


def line(case: Mapping[str, Any]) -> str:
    """One row of the table."""
    head = f"| {case['model']} | {case['mode']} | {case['schedule']} |"
    if "refused" in case:
        return f"{head} refused: {case['refused'][:160]} |"
    found = {name: outcome["status"] for name, outcome in case["checks"].items()}
    verdict = (
        "pass" if set(found.values()) == {"pass"} else ", ".join(f"{k}: {v}" for k, v in found.items() if v != "pass")
    )
    parts = [
        f"{case[kind]['rows']} of {case['rows']} | {case[kind]['largest']:.1e} | {case[kind]['mean']:.1e}"
        for kind in ("pruned", "dense", "effect")
    ]
    return f"{head} {case['serving']} | {' | '.join(parts)} | {verdict} |"


if __name__ == "__main__":
    main()
