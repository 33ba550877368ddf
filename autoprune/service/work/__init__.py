"""What runs jobs: runners, the process of one job, and the check of what was submitted."""
