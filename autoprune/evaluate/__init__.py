"""Evaluation of schedules: answers, verdicts, intervals, and times beside the dense model.

From one data row to its result:

    data/rows.py    a row of the data becomes a `Sample`
    encoding.py     the sample becomes model inputs, its continuation is laid out for teacher forcing
    prefix.py       the dense pass is recorded; a schedule runs again only from its first stage on
    greedy.py       the dense model's answer; a pruned answer that parts from it is decoded to its end
    verdicts.py     logits and tokens become an `Answer`, the answer becomes a verdict
    results.py      verdict and price of one sample, and their summary over many

batch.py prepares these steps for the samples that run together, candidate.py takes one schedule through them, and
evaluator.py takes many schedules through all batches. generate.py reaches the same results without prefix.py, by
``generate()`` under the patch; forcing.py tells for which models only that way is right.
"""
