"""Work in a forked child, which has imported what this process has: a child of its own takes seconds for torch."""

import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_OURS = ("pipeline", "vae")


class Ended(NamedTuple):
    """How a child ended.

    Attributes:
        code: exit code; minus the number of the signal that ended it.
        said: what it wrote to standard error.
    """

    code: int
    said: str


def forked(work: Callable[[], int], folder: Path) -> Ended:
    """Do a work in a child whose current folder this is; what the work returns is its exit code."""
    return start(work, folder)()


def start(work: Callable[[], int], folder: Path) -> Callable[[], Ended]:
    """Start the child of ``forked``; a function that waits for its end."""
    said = tempfile.TemporaryFile()  # noqa: SIM115  closed at the end of the child
    child = os.fork()
    if not child:
        _in_child(work, folder, said.fileno())

    def finish() -> Ended:
        with said:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            said.seek(0)
            return Ended(code, said.read().decode())

    return finish


def _in_child(work: Callable[[], int], folder: Path, said: int) -> None:
    code = 70
    try:
        sys.stderr = os.fdopen(os.dup2(said, 2), "w", buffering=1, closefd=False)
        os.chdir(folder)
        code = work()
    except BaseException:  # noqa: BLE001 - the parent reports it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def import_from(code: Path) -> None:
    """Let this child import the packages anew, from the copies in a folder."""
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]
    sys.path.insert(0, str(code))
    importlib.invalidate_caches()
