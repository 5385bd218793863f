"""The sources of the stage prepare: simulated surfaces, a user's quotes, a user's array."""
