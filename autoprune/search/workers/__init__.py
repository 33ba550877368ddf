"""Workers of a study: `protocol` (values exchanged), `engine` (model and data), `local` and `ray` (executors)."""
