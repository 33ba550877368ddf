"""What the service keeps in its database: jobs, their events, tokens, and the versions of its tables."""
