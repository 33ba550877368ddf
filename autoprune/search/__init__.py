"""Finds schedules: the search over layers, keeps and criteria, on any number of workers.

* `spec.StudySpec` - a study file, checked whole before any compute; `inputs` - its data, and what it would do.
* `driver.run_study` - the study itself, from the file to the front; it resumes where it stopped.
* `space`, `sampler`, `initial`, `racing`, `controls`, `pareto` - the ideas of the search, each pure and on its own.
* `ledger`, `storage`, `lock` - the database; `workers` - who evaluates candidates; `collect` - controls and validation.
* `front` - the content of ``front.json``.
"""
