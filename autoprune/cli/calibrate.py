"""``autoprune calibrate``: the main job, from a study file to a report."""


def calibrate() -> None:
    """X"""
