"""What a user can mend."""


class InputError(Exception):
    """Bad usage or input, said in one line that names the key or file and what is allowed; exit code 2."""


class StageError(Exception):
    """A stage ran and failed, said in one line; exit code 1."""
