"""Errors that end a command with one line for the user."""

import re
from collections.abc import Iterable

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NEXT_LINE = "\n  "  # of a message with several


class InputError(Exception):
    """Wrong usage or input: one line that names the key or file and what is allowed; exit code 2.

    Of several faults at once ``args`` holds a line each, after one that says of what.
    """

    def __str__(self) -> str:
        """The lines; names in them may break lines too, so that only ``args`` says which are whose."""
        return _NEXT_LINE.join(map(str, self.args))


class StageError(Exception):
    """A stage that ran and failed: one line; exit code 1."""


def shown(name: object) -> str:
    r"""A name in a line for a person: what would end the line or move the cursor as an escape.

    >>> print(shown("a\nb.csv"))
    a\nb.csv
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(name))


def shown_message(error: object) -> str:
    r"""An error in which names are shown so; only an InputError has several lines.

    >>> print(shown_message(InputError("a.csv has 2 faults:", "no column k", "no column iv\n")))
    a.csv has 2 faults:
      no column k
      no column iv\n
    """
    return _NEXT_LINE.join(shown(line) for line in (error.args if isinstance(error, InputError) else (error,)))


def in_one_line(error: InputError) -> str:
    """The message of an error in one line, also of several faults."""
    first, *others = map(str, error.args)
    return " ".join((first, "; ".join(others))) if others else first


def listed(names: Iterable[str], *, most: int = 6) -> str:
    """Names in a message: all of them, or of more than ``most`` the first ones, the last and their number."""
    names = list(names)
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])}, ..., {names[-1]} ({len(names):,} in all)"
