"""Faults of the disk, and children in which one of them strikes.

The calls are counted, and struck, by ``shim.c`` in front of the C library. A child is forked from a process that has
imported everything, so that a trial takes as long as the work itself.
"""

import contextlib
import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from enum import IntFlag
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import InputError, StageError

_SHIM = Path(__file__).with_name("shim.c")
_READY = "VOLVAE_CHAOS_SHIM"
_SECONDS = 600  # after which a child hangs
_BROKEN = 70  # exit code of a child that ends with a traceback


class Kind(IntFlag):
    """Kinds of calls, as ``shim.c`` numbers them."""

    OPEN = 1
    WRITE = 2
    SYNC = 4
    RESIZE = 8
    NAME = 16
    REMOVE = 32
    READ = 64


_CHANGES = Kind.OPEN | Kind.WRITE | Kind.SYNC | Kind.RESIZE | Kind.NAME | Kind.REMOVE


class Fault(NamedTuple):
    """A way in which calls fail.

    Attributes:
        name: in tables.
        what: an error number, or what ``shim.c`` does instead.
        kinds: calls that it may strike.
        lasting: whether it strikes the calls after the n-th as well.
        survived: whether the work must succeed all the same.
        deadly: whether it ends the process.
    """

    name: str
    what: int
    kinds: Kind
    lasting: bool = False
    survived: bool = False
    deadly: bool = False


FAULTS = (
    Fault("EIO", errno.EIO, _CHANGES),
    Fault("ENOSPC", errno.ENOSPC, _CHANGES & ~Kind.REMOVE, lasting=True),
    Fault("EINTR", errno.EINTR, Kind.OPEN | Kind.WRITE | Kind.SYNC | Kind.READ, survived=True),
    Fault("short write", -1, Kind.WRITE, survived=True),
    Fault("EIO on reading", errno.EIO, Kind.READ),
    Fault("SIGKILL", -2, _CHANGES, deadly=True),
    Fault("power cut", -3, _CHANGES, deadly=True),
    Fault("clock ahead", -4, _CHANGES, survived=True),
    Fault("clock back", -5, _CHANGES, survived=True),
)
NONE = Fault("none", 0, _CHANGES)


Work = Callable[[contextlib.AbstractContextManager[None]], object]


class Outcome(NamedTuple):
    """How a child ended.

    Attributes:
        code: exit code; minus the number of the signal that ended it.
        said: what it wrote to standard error.
        result: what the work returned; None where it failed.
        calls: calls that the fault could have struck; 0 for a killed child.
    """

    code: int
    said: str
    result: object
    calls: int


def restart_with_shim(module: str) -> None:
    """Run this program anew with the shim in front of the C library, unless it is."""
    if _READY in os.environ:
        return
    with tempfile.TemporaryDirectory(prefix="volvae-chaos-") as folder:
        library = Path(folder) / "shim.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, _SHIM, "-ldl"], check=True)  # noqa: S607
        environment = {**os.environ, _READY: str(library), "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
        sys.exit(subprocess.call([sys.executable, "-m", module, *sys.argv[1:]], env=environment))


def run(work: Work, folder: Path, fault: Fault = NONE, n: int = 0) -> Outcome:
    """Do the work in a child whose current folder is ``folder``; the fault strikes the n-th call below its parent.

    The work is given a context: in its block, calls are counted and struck.

    Errors that end a command with one line have the exit codes of the command; others end with a traceback and 70.
    """
    return start(work, folder, fault, n)()


def start(work: Work, folder: Path, fault: Fault = NONE, n: int = 0) -> Callable[[], Outcome]:
    """Start the child of ``run``; a function that waits for its end."""
    (folder.parent / "tmp").mkdir(exist_ok=True)  # for temporary files, which calls may concern as well
    reader, writer = os.pipe()
    handle, said = tempfile.mkstemp(prefix="volvae-chaos-")
    child = os.fork()
    if not child:
        os.close(reader)
        _in_child(work, folder, fault, n, writer, handle)
    os.close(writer)
    os.close(handle)

    def finish() -> Outcome:
        with os.fdopen(reader, "rb") as stream:
            sent = stream.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        result, calls = json.loads(sent) if sent else (None, 0)
        text = Path(said).read_text(errors="replace")
        Path(said).unlink()
        return Outcome(status, text, result, calls)

    return finish


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Let this process write nothing to standard output and error while the block runs."""
    kept = [os.dup(stream) for stream in (1, 2)]
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (1, 2):
            os.dup2(nothing, stream)
        yield
    finally:
        for stream, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
        os.close(nothing)


def _in_child(work: Work, folder: Path, fault: Fault, n: int, writer: int, said: int) -> None:
    code, calls = _BROKEN, 0

    @contextlib.contextmanager
    def strike() -> Iterator[None]:
        nonlocal calls
        shim = ctypes.CDLL(os.environ[_READY])
        shim.chaos_disarm.restype = ctypes.c_long
        shim.chaos_arm(os.fsencode(folder.parent), fault.what, int(fault.kinds), int(fault.lasting), ctypes.c_long(n))
        try:
            yield
        finally:
            calls = shim.chaos_disarm()

    def prepared() -> object:
        signal.alarm(_SECONDS)
        os.chdir(folder)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder.parent / "tmp")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(said, 2)
        return work(strike())

    try:
        code, result = ended(prepared)
        with os.fdopen(writer, "wb") as stream:
            stream.write(json.dumps([result, calls]).encode())
    finally:
        os._exit(code)


def ended(work: Callable[[], object]) -> tuple[int, object]:
    """The exit code of a work and what it returned, None where it failed; errors are written to standard error."""
    try:
        return 0, work()
    except (InputError, StageError) as error:
        os.write(2, f"{error}\n".encode())
        return 2 if isinstance(error, InputError) else 1, None
    except SystemExit as error:
        return int(error.code or 0), None
    except BaseException:  # noqa: BLE001 - a violation, which the parent reports
        os.write(2, traceback.format_exc().encode())
        return _BROKEN, None
