"""Show a front: the page, the picture, and the schedule that a person takes home."""
