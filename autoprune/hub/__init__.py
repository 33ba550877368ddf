"""Schedules in repositories: on the hub, or folders of the same layout."""
