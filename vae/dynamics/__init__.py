"""The law of motion: how surfaces and the return of their underlying move from one date to the next."""
