"""A new bundle is tried in a child process before it is taken: its graphs may never end, or take all memory.

The child has a limit of memory and of time. Its outcome is kept, as the manifest holds the checksums of all files.
"""

import os
import signal
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

from deploy.server import served
from deploy.server.children import spawn, with_parent
from deploy.server.served import Fingerprint
from deploy.server.stop import Stop
from vae import bundle
from vae.bundle import BundleError

_SECONDS = 60.0  # in which a bundle must be loaded and run ...
_CPU_SECONDS = 30  # ... and of processor time; the largest takes two
_NICE = 5  # by how much a trial gives way to the calls of the server
_MEMORY = 2 * 2**30  # bytes of the child, an eighth of which Python, numpy and onnxruntime take
_LOOK = 0.1  # seconds between two looks at the outcome of a trial
_REST = 10.0  # times as long as a trial that failed took, until the same bundle is tried again
_KEPT = 16  # bundles that passed, so that a way back to one of them is quick


class Stopped(Exception):  # noqa: N818 - no error: the process is about to end
    """The trial was ended before it had an outcome."""


class _Failure(NamedTuple):
    """Why a bundle failed, and the time of ``time.monotonic`` from which on it may be tried again."""

    manifest: str
    reason: str
    until: float


class Trials:
    """The bundles that this process tried.

    Args:
        passed: manifests of bundles that passed the trial of another process.
        stop: at which a trial ends.
    """

    def __init__(self, passed: Iterable[str] = (), *, stop: Stop | None = None) -> None:
        self._passed: OrderedDict[str, None] = OrderedDict.fromkeys(passed)
        self._failed: _Failure | None = None
        self.stop = stop or Stop()

    @property
    def passed(self) -> tuple[str, ...]:
        """Manifests of the bundles that passed."""
        return tuple(self._passed)

    def check(self, found: Fingerprint, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Return if a bundle is fit to be served; it is tried unless that is known.

        Args:
            found: the bundle.
            is_wanted: whether nothing has taken its place, which is asked from time to time during the trial.

        Raises:
            BundleError: it is not fit, or no longer wanted.
            Stopped: the end was asked for.
        """
        if found.manifest in self._passed:
            return
        # which is quick: a copy that is under way is not tried
        bundle.read_whole(found.folder, bundle.GRAPHS, optional=(bundle.SCENARIOS,))
        start, before = time.monotonic(), self._failed
        if before is not None and before.manifest == found.manifest and start < before.until:
            raise BundleError(before.reason)
        try:
            _try(found, self.stop, is_wanted)
        except BundleError as error:
            now = time.monotonic()
            self._failed = _Failure(found.manifest, str(error), now + _REST * (now - start))
            raise
        self._passed[found.manifest] = None
        while len(self._passed) > _KEPT:
            self._passed.popitem(last=False)


def _try(found: Fingerprint, stop: Stop, is_wanted: Callable[[], bool]) -> None:
    """Load and run a bundle in a child.

    Raises:
        BundleError: it cannot be, or not within the limits, or it is no longer wanted.
        Stopped: the end was asked for.
    """
    outcome, sender = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_in_child, args=(found, sender), daemon=True)
    child.start()
    sender.close()
    end = time.monotonic() + _SECONDS
    try:
        while not wait([outcome], timeout=_LOOK):
            if stop.is_set():
                raise Stopped
            if not is_wanted():
                raise BundleError(f"{found.folder} was replaced before its trial ended")
            if time.monotonic() > end:
                raise BundleError(f"{found.folder} cannot be run: its graphs do not end within {_SECONDS:g} s")
        try:
            reason: str = outcome.recv()
        except EOFError:
            child.join()
            raise BundleError(f"{found.folder} cannot be run: {_end(child.exitcode)}") from None
    finally:
        outcome.close()
        child.kill()
        child.join()
    if reason:
        raise BundleError(reason)


def _end(code: int | None) -> str:
    """Why a child ended without a word, by its exit code."""
    if code == -signal.SIGXCPU:
        return f"its graphs do not end within {_CPU_SECONDS} s of processor time"
    return f"it ends the process with code {code}, or takes more than {_MEMORY >> 20} MiB"


def _in_child(found: Fingerprint, sender: Connection) -> None:
    with_parent(partial(_report, found, sender))


def _report(found: Fingerprint, sender: Connection) -> None:
    """Send why a bundle cannot be served; nothing where it can."""
    _limit()
    try:
        served.load(found, provider="cpu", threads=1)
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
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # where memory runs out before the limit, as in a container, it shall be this process
        Path("/proc/self/oom_score_adj").write_text("1000")
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)
