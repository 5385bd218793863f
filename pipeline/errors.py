"""Errors that end a command with one line for the user."""

from collections.abc import Iterable


class InputError(Exception):
    """Wrong usage or input: one line that names the key or file and what is allowed; exit code 2."""


class StageError(Exception):
    """A stage that ran and failed: one line; exit code 1."""


def listed(names: Iterable[str], *, most: int = 6) -> str:
    """Names in a message: all of them, or of more than ``most`` the first ones, the last and their number."""
    names = list(names)
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])}, ..., {names[-1]} ({len(names):,} in all)"
