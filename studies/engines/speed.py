"""Dense beside pruned in vLLM: `autoprune bench --engine vllm` on the trained small model, and on a larger random one.

    python studies/engines/speed.py OUT_FOLDER [--only NAME] [--repeats 20]

Needs vLLM 0.32 beside autoprune. Each case is one process of `autoprune bench`, whose object is written to OUT_FOLDER.
The larger model is a LLaVA of 8 layers of width 1024 with 576 visual tokens and a small vision tower; its weights are
random, since times do not depend on them, and what it answers means nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoProcessor, CLIPVisionConfig, LlavaConfig

HERE = Path(__file__).parent
DIGITS = HERE.parent / "digit_scenes"


def wider(folder: Path) -> Path:
    """Config and processor of the larger model, with the tokens of the small one."""
    small: Any = AutoConfig.from_pretrained(DIGITS / "model")
    text = small.text_config.to_dict() | {
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 64,
        "max_position_embeddings": 2048,
        "dtype": "float32",
    }
    tower = CLIPVisionConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=336,
        patch_size=14,
    )
    config = LlavaConfig(
        vision_config=tower, text_config=text, image_token_id=small.image_token_id, architectures=small.architectures
    )
    folder.mkdir(parents=True, exist_ok=True)
    processor: Any = AutoProcessor.from_pretrained(DIGITS / "model")
    processor.patch_size = tower.patch_size
    processor.image_processor.size = {"shortest_edge": tower.image_size}
    processor.image_processor.crop_size = {"height": tower.image_size, "width": tower.image_size}
    processor.save_pretrained(folder)
    config.save_pretrained(folder)
    return folder


def schedules(folder: Path) -> dict[str, Path]:
    """Schedules for both models, by name."""
    made: dict[str, dict[str, Any]] = {
        "diversity": {
            "stages": [{"layer": 0, "keep": {"ratio": 0.25}, "criterion": {"name": "diversity"}}],
            "positions": "compact",
        },
        "attention": {
            "stages": [
                {"layer": 2, "keep": {"ratio": 0.5}, "criterion": {"name": "attention", "rows": "text"}},
                {"layer": 4, "keep": {"ratio": 0.125}, "criterion": {"name": "attention", "rows": "visual"}},
            ]
        },
    }
    files = {}
    for name, what in made.items():
        files[name] = folder / f"{name}.json"
        files[name].write_text(json.dumps({"format": "autoprune.schedule", "version": 1, **what}), encoding="utf-8")
    shutil.copy(DIGITS / "schedule.json", folder / "found.json")
    return {**files, "found": folder / "found.json"}


def main() -> None:
    """Run the cases one after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--only")
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    files, large = schedules(given.out), str(wider(given.out / "wider"))
    small = str(DIGITS / "model")
    cases = {f"small-{name}": [small, str(files[name])] for name in ("found", "diversity")}
    cases |= {f"wider-{name}": [large, str(files[name]), "--random-init"] for name in ("diversity", "attention")}
    for name, line in cases.items():
        if given.only not in (None, name):
            continue
        batches = ["1", "8"] if name.startswith("small") else ["1"]
        line += [word for batch in batches for word in ("--batch-size", batch)]
        line += [
            "--engine",
            "vllm",
            "--engine-option",
            "enforce_eager=true",
            "--repeats",
            str(given.repeats),
            "--new-tokens",
            "8",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "autoprune", "bench", *line, "--json"], stdout=subprocess.PIPE, check=True
        )
        (given.out / f"{name}.out.json").write_bytes(done.stdout)
        sys.stdout.write(f"{name}: {figures(json.loads(done.stdout))}\n")
        sys.stdout.flush()


def figures(found: dict[str, Any]) -> str:
    """Medians and interquartile ranges of a case, in a line for each number of requests."""
    lines = []
    for setting in found["settings"]:
        parts = [f"{setting['requests']} requests"]
        for arm in ("dense", "pruned"):
            parts += [f"{arm} {key} {value['median']:.3g} [{value['iqr']:.2g}]" for key, value in setting[arm].items()]
        for key in ("first_token_ratio", "requests_ratio"):
            parts.append(f"{key} {setting[key]['median']:.3g} [{setting[key]['iqr']:.2g}]")
        lines.append(", ".join(parts))
    return f"{found['prompt_tokens']} prompt tokens, per layer {found['tokens']}; " + " | ".join(lines)


if __name__ == "__main__":
    main()
