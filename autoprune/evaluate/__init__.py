"""What a schedule loses: answers, verdicts, intervals, and times beside the dense model."""
