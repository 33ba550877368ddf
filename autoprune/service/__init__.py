"""The service: studies over HTTP, run by leased jobs on any machine that reaches its database."""

from autoprune.service.client import Client, RemoteError, RemoteEvent, RemoteInputError

__all__ = ["Client", "RemoteError", "RemoteEvent", "RemoteInputError"]
