"""Results shown to a person."""
