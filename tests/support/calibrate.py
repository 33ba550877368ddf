"""``autoprune calibrate --json`` with a backend for tests: ``python -m support.calibrate BACKEND STUDY.yaml``."""

from __future__ import annotations

import functools
import sys

from autoprune.search import driver

if __name__ == "__main__":
    driver.run_study = functools.partial(driver.run_study, backend=sys.argv[1])  # type: ignore[assignment]
    from autoprune.entry import main

    sys.exit(main(["calibrate", *sys.argv[2:], "--json"]))
