"""Schedules inside vLLM: a plug-in that vLLM finds by itself, for one minor version of it.

Nothing here is imported unless vLLM, or a test, asks for it.
"""
