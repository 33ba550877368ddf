"""Benchmark of schedules: dense and pruned runs side by side, and where the time goes that is not saved."""

from autoprune.bench.plan import BenchPlan, choose_schedules
from autoprune.bench.results import Benchmark
from autoprune.bench.run import benchmark

__all__ = ["BenchPlan", "Benchmark", "benchmark", "choose_schedules"]
