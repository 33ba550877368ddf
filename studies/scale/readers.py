"""Readers of a running study's front: how fast they are answered, and what the study pays for them.

    python studies/scale/readers.py                # 50 readers, each asks again a second after its answer
    python studies/scale/readers.py --pause 0      # each asks again at once

A real service with one runner searches digit_scenes. Readers ask for the chart of its front and, in turn, for
/healthz; the study's speed is the calibration rows that it measures meanwhile. Turns alternate, so that both loads meet
all of the search. A reader sends the tag of what it has, as a browser does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path += [str(HERE.parents[1]), str(HERE.parents[1] / "tests")]

import httpx2 as httpx  # noqa: E402
import yaml  # noqa: E402
from support.service import waited  # noqa: E402
from support.serving import Service, serving  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between an answer and the next question")
    parser.add_argument("--turns", type=int, default=12, help="turns of each kind")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a turn")
    given = parser.parse_args()
    root = HERE.parent / "digit_scenes"
    study = yaml.safe_load((root / "study.yaml").read_text())
    del study["output"]
    study |= {"workers": {"count": 0}, "search": {"trials": 5000, "row_forwards": 10_000_000, "seed": 0}}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with serving(root, place / "service", f"sqlite:///{place}/service.db") as service:
            id = service.submitted(study)
            waited(lambda: len(service.finished(id)) >= 5, 600)
            chart, idle = f"/studies/{id}/chart.json", "/healthz"
            turns = [(path, _turn(service, id, path, given)) for _ in range(given.turns) for path in (idle, chart)]
            service.http.post(f"/v1/studies/{id}/cancel")
            service.ended(id)
    for name, path in (("front", chart), ("/healthz", idle)):
        mine = [turn for asked, turn in turns if asked == path]
        times = sorted(time for turn in mine for time in turn["times"])
        p50, p99 = (1000 * times[int(share * (len(times) - 1))] for share in (0.5, 0.99))
        speed = sum(turn["rows"] for turn in mine) / sum(turn["seconds"] for turn in mine)
        print(
            f"{name}: {len(times)} answers, p50 {p50:.0f} ms, p99 {p99:.0f} ms; the study measures {speed:.1f} rows/s"
        )
    pairs = zip(turns[::2], turns[1::2], strict=True)
    ratios = sorted(_speed(read) / _speed(unread) for (_, unread), (_, read) in pairs)
    quarter = len(ratios) // 4
    print(f"speed of the study, front over /healthz, {len(ratios)} pairs: median {statistics.median(ratios):.2f},")
    print(f"    middle half {ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f}")


def _turn(service: Service, id: str, path: str, given: argparse.Namespace) -> dict[str, Any]:
    before, begun = _rows(service, id), time.monotonic()
    times = asyncio.run(_read(str(service.http.base_url), path, given))
    return {"times": times, "rows": _rows(service, id) - before, "seconds": time.monotonic() - begun}


def _speed(turn: dict[str, Any]) -> float:
    return float(turn["rows"] / turn["seconds"])


def _rows(service: Service, id: str) -> int:
    """Calibration rows that the search has measured."""
    progress = service.state(id)["progress"]
    return int(progress["done"])


async def _read(server: str, path: str, given: argparse.Namespace) -> list[float]:
    times: list[float] = []
    ends = time.monotonic() + given.seconds

    async def reader(number: int) -> None:
        async with httpx.AsyncClient(base_url=server, timeout=60) as http:
            await asyncio.sleep(given.pause * number / given.readers)
            tag = ""
            while time.monotonic() < ends:
                begun = time.monotonic()
                reply = await http.get(path, headers={"If-None-Match": tag} if tag else {})
                times.append(time.monotonic() - begun)
                assert reply.status_code in (200, 304), reply.text
                if reply.status_code == 200:
                    json.loads(reply.content)
                tag = reply.headers.get("ETag", tag)
                await asyncio.sleep(given.pause)

    await asyncio.gather(*(reader(number) for number in range(given.readers)))
    return times


if __name__ == "__main__":
    main()
