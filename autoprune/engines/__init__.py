"""Schedules in the programs that people serve models with."""
