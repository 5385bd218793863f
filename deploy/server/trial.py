"""A new bundle is tried in a child process before it is taken: its graphs may never end, or take all memory.

The child has a limit of memory and of time. Its outcome is kept for all processes of the server, as the manifest holds
the checksums of all files.
"""

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, NamedTuple

from deploy.server import served
from deploy.server.children import spawn, with_parent
from deploy.server.priority import give_way
from deploy.server.served import Fingerprint
from deploy.server.stop import Stop
from vae import bundle
from vae.bundle import BundleError

_Load = Callable[[Fingerprint], object]
_SECONDS = 300.0  # in which a bundle must be loaded and run, which gives way to requests ...
_CPU_SECONDS = 30  # ... and of processor time; the largest takes two
_MEMORY = 2 * 2**30  # bytes of the child, an eighth of which Python, numpy and onnxruntime take
_LOOK = 0.1  # seconds between two looks at the outcome of a trial
_REST = 10.0  # times as long as a trial that failed took, until the same bundle is tried again
_KEPT = 16  # outcomes, so that a way back to a bundle that passed is quick


class Stopped(Exception):  # noqa: N818 - no error: the process is about to end
    """The trial was ended before it had an outcome."""


class _Outcome(NamedTuple):
    """Why a bundle failed, empty where it passed, and the ``time.monotonic`` from which on it may be tried again."""

    reason: str
    until: float


class Trials:
    """The bundles that the processes of a server tried: one trial does for all of them.

    Each bundle has a file, whose lock the process holds that tries it, and which holds the outcome afterwards. The
    kernel frees the lock of a process that is killed, and the next one tries.

    Args:
        folder: of these files, which the processes share; it is made where it is missing, also later.
        stop: at which a trial ends.
        alone: whether nobody is served yet, so that a trial may take several cores.
    """

    def __init__(self, folder: Path, *, stop: Stop | None = None, alone: bool = False) -> None:
        self._folder = folder
        self._load = partial(served.load, provider="cpu", threads=1, side_by_side=alone)
        self.stop = stop or Stop()

    def check(self, found: Fingerprint, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Return if a bundle is fit to be served; it is tried unless that is known.

        Args:
            found: the bundle.
            is_wanted: whether nothing has taken its place, which is asked from time to time during the trial.

        Raises:
            BundleError: it is not fit, or no longer wanted.
            Stopped: the end was asked for.
        """
        with self._turn(found, partial(self._check_wanted, found, is_wanted)) as file:
            known = _read(file)
            if known is None or (known.reason and time.monotonic() >= known.until):
                # which is quick: a copy that is under way is not tried
                bundle.read_whole(found.folder, bundle.GRAPHS, optional=(bundle.SCENARIOS,))
                known = _tried(found, partial(self._check_wanted, found, is_wanted), self._load)
                _write(file, known)
                self._forget()
        if known.reason:
            raise BundleError(known.reason)

    def note_fit(self, found: Fingerprint) -> None:
        """Note that a bundle passed, so that it is not tried."""
        with self._turn(found, lambda: None) as file:
            _write(file, _Outcome("", 0.0))

    @contextmanager
    def _turn(self, found: Fingerprint, check: Callable[[], None]) -> Iterator[IO[str]]:
        """The file of a bundle, which no other process holds; ``check`` ends the wait by what it raises."""
        self._folder.mkdir(parents=True, exist_ok=True)  # temporary folders are tidied by age
        with (self._folder / found.manifest).open("a+") as file:
            while not _lock(file):
                check()
                time.sleep(_LOOK)
            yield file

    def _check_wanted(self, found: Fingerprint, is_wanted: Callable[[], bool]) -> None:
        if self.stop.is_set():
            raise Stopped
        if not is_wanted():
            raise BundleError(f"{found.folder} was replaced before its trial ended")

    def _forget(self) -> None:
        """Remove the oldest files; a process that holds one keeps its lock."""
        for path in sorted(self._folder.iterdir(), key=_age)[:-_KEPT]:
            path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """The time at which a file was written, 0 where another process removed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _lock(file: IO[str]) -> bool:
    """Lock a file, whose lock a child does not inherit; returns whether no other process holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: IO[str]) -> _Outcome | None:
    """The outcome in a file; None where there is none, or a process was killed while it wrote."""
    file.seek(0)
    try:
        return _Outcome(*json.load(file))
    except (ValueError, TypeError):
        return None


def _write(file: IO[str], outcome: _Outcome) -> None:
    file.truncate(0)
    json.dump(outcome, file)
    file.flush()


def _tried(found: Fingerprint, check_wanted: Callable[[], None], load: _Load) -> _Outcome:
    """The outcome of a trial.

    Raises:
        BundleError: the bundle is no longer wanted.
        Stopped: the end was asked for.
    """
    start = time.monotonic()
    reason = _try(found, check_wanted, load)
    now = time.monotonic()
    return _Outcome(reason, now + _REST * (now - start))


def _try(found: Fingerprint, check_wanted: Callable[[], None], load: _Load) -> str:
    """Load and run a bundle in a child; returns why that cannot be done within the limits, nothing where it can.

    Raises:
        BundleError: the bundle is no longer wanted.
        Stopped: the end was asked for.
    """
    outcome, sender = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_in_child, args=(found, sender, load), daemon=True)
    child.start()
    sender.close()
    end = time.monotonic() + _SECONDS
    try:
        while not wait([outcome], timeout=_LOOK):
            check_wanted()
            if time.monotonic() > end:
                return f"{found.folder} cannot be run: its graphs do not end within {_SECONDS:g} s"
        try:
            return str(outcome.recv())
        except EOFError:
            child.join()
            return f"{found.folder} cannot be run: {_end(child.exitcode)}"
    finally:
        outcome.close()
        child.kill()
        child.join()


def _end(code: int | None) -> str:
    """Why a child ended without a word, by its exit code."""
    if code == -signal.SIGXCPU:
        return f"its graphs do not end within {_CPU_SECONDS} s of processor time"
    return f"it ends the process with code {code}, or takes more than {_MEMORY >> 20} MiB"


def _in_child(found: Fingerprint, sender: Connection, load: _Load) -> None:
    with_parent(partial(_report, found, sender, load))


def _report(found: Fingerprint, sender: Connection, load: _Load) -> None:
    """Send why a bundle cannot be served; nothing where it can."""
    _limit()
    try:
        load(found)
    except MemoryError:
        sender.send(f"{found.folder} cannot be run: it takes more than {_MEMORY >> 20} MiB")
    except Exception as error:  # noqa: BLE001 - whatever it is, the bundle is not fit
        sender.send(str(error) or type(error).__name__)
    else:
        sender.send("")


def _limit() -> None:
    """Limit memory and processor time of this process, and let it write nothing: onnxruntime's lines are no JSON."""
    import resource  # noqa: PLC0415  Windows has none

    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS + 1))
    give_way()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # where memory runs out before the limit, as in a container, it shall be this process
        Path("/proc/self/oom_score_adj").write_text("1000")
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)
