"""Child processes and temporary folders, which end with the process that made them, however that ends."""

import ctypes
import fcntl
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

spawn = multiprocessing.get_context("spawn")

_SIGNAL_OF_PARENT = 1  # PR_SET_PDEATHSIG: the signal that Linux sends when the parent dies; see prctl(2)
_IN_USE = "in-use"  # file in a temporary folder that its users lock
# Waits for the end of this process, which closes the pipe, and of those that use the folder.
_JANITOR = f"""
import fcntl, os, shutil, signal, sys
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
sys.stdin.buffer.read()
try:
    fcntl.flock(os.open(os.path.join(sys.argv[1], {_IN_USE!r}), os.O_RDONLY), fcntl.LOCK_EX)
except OSError:
    pass
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


def with_parent(work: Callable[[], None]) -> None:
    """Do the work; finish, too, when the process that started this one dies."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_SIGNAL_OF_PARENT, signal.SIGCONT)  # a stopped process could not finish
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    work()


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A new folder that is removed at the end of the block; by a child, if this process is killed before."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    (folder / _IN_USE).touch()
    command = [sys.executable, "-I", "-S", "-c", _JANITOR, str(folder)]
    janitor = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        janitor.communicate()


def use(folder: Path) -> None:
    """Keep a temporary folder until this process ends, in case that the one that made it is killed before."""
    fcntl.flock(os.open(folder / _IN_USE, os.O_RDONLY), fcntl.LOCK_SH)


def _stop_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
