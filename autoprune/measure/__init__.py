"""Prices a schedule: what it costs, what it loses, on which data.

Public names, each imported from its own module so that pricing alone needs no data libraries:

* `cost.cost` - FLOPs and cache bytes of a schedule; `latency.time_prefill` - milliseconds.
* `data.load_samples` - calibration and validation data.
* `loading.load_model`, `loading.encode` - the model and its inputs.
* `metrics`, `statistics`, `results` - verdicts, intervals, and what they are aggregated into.
* `evaluation.Evaluator` - scores schedules on data, many times faster than generating with each of them.
* `generation.generate_and_score` - the same by generating, slow and plain.
"""
