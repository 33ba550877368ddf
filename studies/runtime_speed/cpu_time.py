"""``autoprune bench`` by the CPU time of one thread, not the clock on the wall, for a machine that others use too.

python studies/runtime_speed/cpu_time.py studies/runtime_speed/config.json vtw --random-init --layers 4
"""

from __future__ import annotations

import sys
import time

import torch

from autoprune.entry import main

if __name__ == "__main__":
    torch.set_num_threads(1)
    time.perf_counter = time.process_time
    sys.exit(main(["bench", *sys.argv[1:]]))
