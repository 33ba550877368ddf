"""How fast a schedule really is: dense and pruned runs side by side, and where the time goes that is not saved."""

from autoprune.measure.benchmark.choice import choose_schedules
from autoprune.measure.benchmark.plan import Plan
from autoprune.measure.benchmark.results import Benchmark
from autoprune.measure.benchmark.run import benchmark

__all__ = ["Benchmark", "Plan", "benchmark", "choose_schedules"]
