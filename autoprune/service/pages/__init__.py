"""Pages of the service for browsers: studies, their fronts side by side, and what was published."""
