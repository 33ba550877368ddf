"""Evaluation harnesses: a pruned model as one of their models."""
