"""The folder that a run works in: its lock, and the clean checkout of scheduled runs."""

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import InputError, StageError
from pipeline.registry import lineage

SCHEDULED = Path(".scheduled")  # the checkout, inside the folder that it is a checkout of
_LOCK = Path(".dvc/tmp/volvae.lock")
_PAUSE_SECONDS = 0.5
_DVC_LOCK = Path(".dvc/tmp/rwlock")
_WRITTEN_SECONDS = 0.2  # DVC writes its lock in far less


class BusyError(StageError):
    """Another run holds the folder."""


class Held(NamedTuple):
    """A lock that is held.

    Attributes:
        descriptor: for children that must hold it too.
        left: the holder before, where it was killed and did not let go itself.
    """

    descriptor: int
    left: str | None


@contextlib.contextmanager
def locked(folder: Path, *, holder: str, wait_seconds: float = 0.0) -> Iterator[Held]:
    """Hold the folder against other runs, under the name ``holder``.

    The kernel frees it when the last process that holds it ends, however that ends: no lock is ever stale.

    Raises:
        BusyError: another run holds it, after that many seconds still.
        InputError: the folder cannot be written.
    """
    path = folder / _LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    with stream:
        _take(stream, folder, until=time.monotonic() + wait_seconds)
        left = _read(stream).get("holder")
        _write(stream, {"holder": holder, **_me()})
        heal(folder)
        try:
            yield Held(stream.fileno(), left)
        finally:
            _write(stream, {})


def heal(folder: Path) -> None:
    """Remove what a DVC that was killed has written by half and would refuse ever after: its own lock, and dvc.lock.

    The next `dvc repro` makes them anew, and takes what it had made from its cache of runs.
    """
    for name, whole in ((_DVC_LOCK, _is_json), (lineage.LOCK, _is_dvc_lock)):
        path = folder / name
        if path.exists() and not whole(path):
            time.sleep(_WRITTEN_SECONDS)  # perhaps it is being written just now
            if not whole(path):
                path.unlink(missing_ok=True)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (ValueError, FileNotFoundError):
        return False
    return True


def _is_dvc_lock(path: Path) -> bool:
    """Whether it is whole to its last line."""
    try:
        content = path.read_bytes()
        return content.endswith(b"\n") and {"schema", "stages"} <= set(YAML(typ="safe").load(content))
    except (YAMLError, TypeError, FileNotFoundError):
        return False


def _take(stream: IO[str], folder: Path, *, until: float) -> None:
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


def _me() -> dict[str, str]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"process": str(os.getpid()), "host": socket.gethostname(), "since": now}


def _read(stream: IO[str]) -> dict[str, str]:
    """What the holder wrote; nothing where it let go or wrote half."""
    stream.seek(0)
    try:
        return {str(name): str(value) for name, value in json.loads(stream.read()).items()}
    except (ValueError, AttributeError):
        return {}


def _write(stream: IO[str], content: dict[str, str]) -> None:
    stream.truncate(0)
    stream.write(json.dumps(content))
    stream.flush()


def check_clean(folder: Path) -> None:
    """Refuse a working tree that differs from its commit.

    Raises:
        InputError: it does, or the folder is in no git repository.
    """
    found = lineage.git(folder)
    if not found.commit:
        raise InputError(f"{folder.absolute()} is no git repository with a commit; a clean run needs one")
    if found.dirty:
        changed = [line[3:] for line in found.changes.splitlines()]
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise InputError(
            f"{folder.absolute()} differs from its commit ({', '.join(changed[:3])}{more}); commit that, or let "
            "--allow-dirty run the commit without it"
        )


def check_out(source: Path) -> Path:
    """The clean checkout of ``source`` at its commit, whose DVC cache it shares.

    It is kept from run to run: what DVC made there, and the checkpoints of a run that was killed, stay.

    Raises:
        StageError: git or DVC refuses.
    """
    folder = source / SCHEDULED
    if not (folder / ".git").exists():
        output("git", "init", "--quiet", str(folder), folder=source)
    output("git", "fetch", "--quiet", str(source.absolute()), "HEAD", folder=folder)
    output("git", "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD", folder=folder)
    output("git", "clean", "-ffdq", f"--exclude={lineage.LOCK}", folder=folder)
    remote = lineage.git(source).remote
    if remote:
        output("git", "config", "remote.origin.url", remote, folder=folder)
    local = source / ".dvc/config.local"
    if local.exists():  # where a user's own remotes and their passwords are
        (folder / ".dvc/config.local").write_bytes(local.read_bytes())
    output("dvc", "cache", "dir", "--local", output("dvc", "cache", "dir", folder=source), folder=folder)
    heal(folder)
    return folder


def output(program: str, *arguments: str, folder: Path) -> str:
    """What ``git`` or ``dvc``, that of the running Python, prints.

    Raises:
        StageError: it refuses.
    """
    command = [sys.executable, "-m", program] if program == "dvc" else [program]
    found = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if found.returncode:
        raise StageError(f"{program} {' '.join(arguments)}: {' '.join(found.stderr.split())}")
    return found.stdout.strip()
