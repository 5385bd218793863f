"""The lock of the folder that a run works in, and the repair of files that a killed DVC left unfinished there."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

from pipeline import yaml_text
from pipeline.errors import InputError, StageError
from pipeline.registry import dvc_lock

_LOCK = Path(".dvc/tmp/volvae.lock")
_PAUSE_SECONDS = 0.5
_DVC_LOCK = Path(".dvc/tmp/rwlock")
_WRITE_SECONDS = 0.2  # DVC writes its lock in far less


class BusyError(StageError):
    """Another run holds the folder."""


class Held(NamedTuple):
    """A lock that is held.

    Attributes:
        descriptor: open file of the lock; a child process that inherits it holds the lock too.
        killed_holder: name of the previous holder if it was killed before it released the lock; else None.
    """

    descriptor: int
    killed_holder: str | None


@contextlib.contextmanager
def locked(folder: Path, *, holder: str, wait_seconds: float = 0.0) -> Iterator[Held]:
    """Hold the folder against other runs, under the name ``holder``.

    The kernel frees the lock when the last process that holds it ends, in whatever way. So no lock is ever stale.

    Raises:
        BusyError: another run still holds the folder after ``wait_seconds``.
        InputError: the folder cannot be written.
    """
    path = folder / _LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    with stream:
        _acquire(stream, folder, until=time.monotonic() + wait_seconds)
        killed_holder = _read(stream).get("holder")
        _write(stream, {"holder": holder, **_this_process()})
        heal(folder)
        try:
            yield Held(stream.fileno(), killed_holder)
        finally:
            _write(stream, {})


def heal(folder: Path) -> None:
    """Delete a truncated rwlock or dvc.lock that a killed DVC left: later dvc commands would fail on it.

    The next `dvc repro` writes both again, and restores the results of finished stages from its cache.
    """
    for name, is_complete in ((_DVC_LOCK, _is_json), (dvc_lock.LOCK, _is_dvc_lock)):
        path = folder / name
        if path.exists() and not is_complete(path):
            time.sleep(_WRITE_SECONDS)  # another process may be writing it now
            if not is_complete(path):
                path.unlink(missing_ok=True)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError, FileNotFoundError):
        return False
    return True


def _is_dvc_lock(path: Path) -> bool:
    """Whether the file is complete to its last line."""
    try:
        content = path.read_bytes()
        return content.endswith(b"\n") and {"schema", "stages"} <= set(yaml_text.load(content))
    except (yaml_text.TextError, TypeError, FileNotFoundError):
        return False


def _acquire(stream: IO[str], folder: Path, *, until: float) -> None:
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                found = _read(stream)
                who = f": process {found['process']} on {found['host']}, since {found['since']}" if found else ""
                raise BusyError(f"{folder} is held by another run{who}") from None
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _this_process() -> dict[str, str]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"process": str(os.getpid()), "host": socket.gethostname(), "since": now}


def _read(stream: IO[str]) -> dict[str, str]:
    """The entry of the holder; empty if the lock was released or the entry is incomplete."""
    stream.seek(0)
    try:
        return {str(name): str(value) for name, value in json.loads(stream.read()).items()}
    except (ValueError, AttributeError):
        return {}


def _write(stream: IO[str], content: dict[str, str]) -> None:
    stream.truncate(0)
    stream.write(json.dumps(content))
    stream.flush()
