"""Errors that end a command with one line for the user."""


class InputError(Exception):
    """Wrong usage or input: one line that names the key or file and what is allowed; exit code 2."""


class StageError(Exception):
    """A stage that ran and failed: one line; exit code 1."""
