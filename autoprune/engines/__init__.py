"""Schedules where people serve and compare models: other engines than transformers, and evaluation harnesses."""
