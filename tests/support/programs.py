"""Shell scripts that stand in for a process of the service."""

from __future__ import annotations

from pathlib import Path


def script(file: Path, body: str) -> str:
    """An executable shell script, which gets the arguments of the process that it replaces."""
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return str(file)


def listener(folder: Path) -> str:
    """Body of a script that writes its process into `started` and each signal into `told`, and ends half a second after
    the first one, or after 30 s."""
    return f"""
        trap 'echo INT >> {folder}/told; left=5' INT
        trap 'echo TERM >> {folder}/told; left=5' TERM
        left=300
        echo $$ >> {folder}/started
        while [ $left -gt 0 ]; do sleep 0.1; left=$((left - 1)); done"""
