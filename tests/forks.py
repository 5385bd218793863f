"""Work in a forked child, which has imported what this process has: a child of its own takes seconds for torch."""

import importlib
import os
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple

from _pytest.assertion.rewrite import AssertionRewritingHook

_OURS = ("pipeline", "vae", "deploy")


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
    (ended,) = together([work], folder)
    return ended


def together(works: Sequence[Callable[[], int]], folder: Path, *, seconds: float = 600.0) -> list[Ended]:
    """Do works side by side, each as ``forked``. Where one fails, or after some seconds, the others are killed.

    A process that waits for another one, which has failed, would wait for ever.
    """
    with ExitStack() as stack:
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in works]
        children = [_start(work, folder, file.fileno()) for work, file in zip(works, said, strict=True)]
        codes = _codes(children, seconds)
        return [Ended(codes[child], _text(file)) for child, file in zip(children, said, strict=True)]


def _codes(children: Sequence[int], seconds: float) -> dict[int, int]:
    """Exit codes of children by their numbers."""
    running = {os.pidfd_open(child): child for child in children}
    codes: dict[int, int] = {}

    def reap(handle: int) -> None:
        child = running.pop(handle)
        codes[child] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(handle)

    end = time.monotonic() + seconds
    try:
        while running and not any(codes.values()):
            ended, *_ = select.select(list(running), [], [], max(0.0, end - time.monotonic()))
            if not ended:
                break
            for handle in ended:
                reap(handle)
    finally:
        for handle, child in list(running.items()):
            os.kill(child, signal.SIGKILL)
            reap(handle)
    return codes


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _start(work: Callable[[], int], folder: Path, said: int) -> int:
    child = os.fork()
    if not child:
        _in_child(work, folder, said)
    return child


def _in_child(work: Callable[[], int], folder: Path, said: int) -> None:
    code = 70
    try:
        look_away()
        sys.stderr = os.fdopen(os.dup2(said, 2), "w", buffering=1, closefd=False)
        os.chdir(folder)
        code = work()
    except BaseException:  # noqa: BLE001 - the parent reports it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def look_away() -> None:
    """Let coverage and pytest rest in this child: lines that it would not keep, assertions that it need not explain.

    pytest parses modules of its plugins anew, which in two threads at once fails in Python 3.11.
    """
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]  # as Python's documents have it
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, AssertionRewritingHook)]


def import_from(code: Path) -> None:
    """Let this child import the packages anew, from the copies in a folder."""
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]
    sys.path.insert(0, str(code))
    importlib.invalidate_caches()
