"""Writes the measured tables into outcome.md, between their marks, so that no figure there is typed by hand.

    python studies/smol_scenes/outcome.py [NAME ...]         all blocks, or some of them

A block begins with ``<!-- NAME -->`` and ends with ``<!-- /NAME -->``; what stands between is replaced. A block whose
measurement is missing stays as it is, and is named.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "digit_scenes"))

import commands  # noqa: E402

_BLOCK = re.compile(r"(?s)<!-- (?P<name>[a-z-]+) -->\n.*?<!-- /(?P=name) -->")
COMMANDS: Mapping[str, Callable[[Path], str]] = {
    "flow": commands.flow,
    "ablation": commands.ablation,
    "codebook-facts": commands.codebook,
    "study": commands.study,
    "verified": commands.verified,
    "transferred": commands.transferred,
}
"""Blocks made from what a command wrote with --json; others are files RUN/NAME.txt, as a script printed them."""
PRINTED = ("sweep", "speed", "pace")
"""Files that are no Markdown."""


def told(name: str, run: Path) -> str | None:
    """The content of a block; None if it is not measured."""
    try:
        if name in COMMANDS:
            return COMMANDS[name](run)
        said = (run / f"{name}.txt").read_text().strip()
        return f"```text\n{said}\n```" if name in PRINTED else said
    except FileNotFoundError:
        return None


def filled(text: str, tell: Callable[[str], str | None]) -> str:
    """The text with the content of its blocks replaced; blocks that are told as None stay."""

    def block(match: re.Match[str]) -> str:
        name, content = match["name"], tell(match["name"])
        return match[0] if content is None else f"<!-- {name} -->\n{content.strip()}\n<!-- /{name} -->"

    return _BLOCK.sub(block, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="blocks to write; default: all")
    parser.add_argument("--run", type=Path, default=HERE.parent.parent / "runs" / "smol-scenes")
    parser.add_argument("--outcome", type=Path, default=HERE / "outcome.md")
    given = parser.parse_args()

    def tell(name: str) -> str | None:
        if given.names and name not in given.names:
            return None
        content = told(name, given.run)
        print(f"{name}: {'not measured' if content is None else 'written'}")
        return content

    given.outcome.write_text(filled(given.outcome.read_text(), tell))


if __name__ == "__main__":
    main()
