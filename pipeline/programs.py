"""Programs that the pipeline calls, git and DVC: what they print, and their failure as one line."""

import os
import subprocess
import sys
from pathlib import Path

from pipeline.errors import StageError


class ProgramError(StageError):
    """git or DVC failed; ``code`` is its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def output(
    program: str,
    *arguments: str,
    folder: Path = Path(),
    lock: int | None = None,
    standard_input: bytes = b"",
    **environment: str,
) -> bytes:
    """The standard output of ``git`` or of the running Python's ``dvc``, with variables beside those of this process.

    Args:
        program: git or dvc.
        arguments: of the program.
        folder: working directory.
        lock: descriptor of a lock, which the program holds as long as it lives; None for none.
        standard_input: of the program.
        environment: the variables.

    Raises:
        ProgramError: the program failed.
    """
    command = [sys.executable, "-m", program] if program == "dvc" else [program]
    found = subprocess.run(
        [*command, *arguments],
        cwd=folder, env={**os.environ, **environment}, input=standard_input, capture_output=True, check=False,
        pass_fds=() if lock is None else (lock,),
    )  # fmt: skip
    if found.returncode:
        raise ProgramError(
            f"{program} {' '.join(arguments)}: {' '.join(_text(found.stderr).split())}", found.returncode
        )
    return found.stdout


def text(program: str, *arguments: str, folder: Path = Path(), lock: int | None = None, **environment: str) -> str:
    """The same as text, without the blanks and line ends around it.

    Raises:
        ProgramError: the program failed.
    """
    return _text(output(program, *arguments, folder=folder, lock=lock, standard_input=b"", **environment)).strip()


def _text(printed: bytes) -> str:
    return printed.decode(errors="backslashreplace")  # names of files may be in any encoding, and are shown
