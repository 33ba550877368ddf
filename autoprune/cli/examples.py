"""What stands at the end of every help: examples of command lines, and the environment variables that are read."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final = {
    "calibrate": ("study.yaml --dry-run", "study.yaml", "study.yaml --trials 400 --output runs/longer"),
    "report": ("runs/my-study",),
    "export": (
        "runs/my-study --max-drop 0.02 -o schedule.json",
        "runs/my-study --max-drop 0.02 --max-drop ocr=0.05 --confidence 0.95 -o schedule.json",
        "runs/my-study --max-flops 0.4 -o -",
    ),
    "apply-check": ("llava-hf/llava-1.5-7b-hf schedule.json",),
    "transfer": ("schedule.json other-model --data rows.jsonl -o transferred.json",),
    "verify": ("llava-hf/llava-1.5-7b-hf schedule.json --data held-out.jsonl",),
    "doctor": (
        "llava-hf/llava-1.5-7b-hf",
        "config.json --random-init",
        "llava-hf/llava-1.5-7b-hf schedule.json --engine vllm --data rows.jsonl --samples 64",
    ),
    "bench": (
        "llava-hf/llava-1.5-7b-hf schedule.json --visual-tokens 576",
        "llava-hf/llava-1.5-7b-hf schedule.json --engine vllm --batch-size 8",
    ),
    "compile": ("llava-hf/llava-1.5-7b-hf schedule.json -o compiled",),
    "sweep": ("llava-hf/llava-1.5-7b-hf --data rows.jsonl -o vtw.json --plot vtw.png",),
    "fitprune": ("llava-hf/llava-1.5-7b-hf --data rows.jsonl -o fitprune.json",),
    "flow": ("llava-hf/llava-1.5-7b-hf --data rows.jsonl -o flow.json",),
    "codebook": ("llava-hf/llava-1.5-7b-hf --data rows.jsonl -o codebook.safetensors",),
    "ablate": ("llava-hf/llava-1.5-7b-hf --data rows.jsonl -o ablation.html",),
    "presets": ("--layers 28",),
    "dashboard": ("runs/my-study", "--storage sqlite:///runs/my-study/study.db --port 8080"),
    "serve": ("", "--runners 2 --port 9000"),
    "runner": ("",),
}
"""Arguments of each command, by its name."""

_VARIABLES: Final = {
    "AUTOPRUNE_STORAGE": "database of calibrate and dashboard, so that a password stands in no command line",
    "AUTOPRUNE_SERVER": "URL of the service that remote speaks to; default: this machine's",
    "AUTOPRUNE_TOKEN": "its token, so that it stands in no command line",
    "AUTOPRUNE_SERVICE_…": "settings of serve, runner, token and db: see autoprune/service/README.md",
    "RAY_ADDRESS": "Ray cluster that calibrate's workers run on; default: one of its own on this machine",
    "HF_HUB_OFFLINE": "1 = the hub is never asked",
    "HF_HOME": "folder of models and data sets from the hub",
    "HF_TOKEN": "access to models and data sets that need it",
    "CUDA_VISIBLE_DEVICES": "GPUs that may be used",
    "NO_COLOR": "any value = no colours",
}
ENVIRONMENT: Final = "\n\n".join(["Environment:", *(f"  {name}: {what}" for name, what in _VARIABLES.items())])
"""The end of the program's own help."""


def examples_of(command: str) -> str:
    """The end of a command's help."""
    return "\n\n".join(["Examples:", *(f"  autoprune {command} {line}" for line in EXAMPLES[command])])
