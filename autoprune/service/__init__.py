"""The service: studies over HTTP, run by leased jobs on any machine that reaches its database."""
