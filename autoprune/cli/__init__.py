"""The command line: one thin file per command, no logic.

A command imports what it runs inside its function, so that ``--help``, a usage error and the light commands never wait
for torch or ray.
"""
