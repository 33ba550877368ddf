"""What a search evaluates next, as pure values: no database, no workers, no models."""
