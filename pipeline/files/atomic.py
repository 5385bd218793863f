"""Files and folders that appear whole or not at all."""

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import InputError
from pipeline.files.exchange import exchange

_FULL = (errno.ENOSPC, errno.EDQUOT)
_GB = 1e9
_OLD = "old"  # name of the folder that is being replaced, where two paths cannot be exchanged


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content replaces ``path`` when the block succeeds and is deleted when it fails.

    Raises:
        InputError: the path cannot be written.
    """
    with _names(path):
        _sweep(path)
        partial = _parent(path) / f".{path.name}.{os.getpid()}.{secrets.token_hex(6)}"
        handle = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)  # less what the umask takes away
    try:
        with _names(path):
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
            _sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A new folder that replaces ``path`` when the block succeeds and is deleted when it fails.

    It is made before the work starts, so that a path that cannot be written is found at once. Where the system can
    exchange two paths, a reader meets the old folder or the new one at any time. Elsewhere there is a moment without
    either; where a process is killed then, the next one puts the old folder back.

    Raises:
        InputError: the path cannot be written.
    """
    with _names(path):
        _sweep(path)
        work = Path(tempfile.mkdtemp(dir=_parent(path), prefix=f".{path.name}.{os.getpid()}."))
        partial = work / "new"
        partial.mkdir()
    try:
        try:
            yield partial
        except OSError as error:
            if error.errno in _FULL:
                raise InputError(f"{path} cannot be written: {error.strerror}") from error
            raise
        with _names(path):
            sync_all(partial)
            _put(partial, path, work / _OLD)
            _sync(path.parent)
    finally:
        with _names(path):
            _remove(work, path)


def _put(fresh: Path, path: Path, aside: Path) -> None:
    """Make ``fresh`` stand at ``path``; what stood there ends at ``fresh`` or ``aside``."""
    if path.exists():
        if exchange(fresh, path):
            return
        path.rename(aside)
    fresh.rename(path)


def _remove(work: Path, path: Path) -> None:
    """Remove the unfinished file or the working folder of ``path``, but put back what may be its only copy."""
    if (work / _OLD).exists() and not path.exists():
        (work / _OLD).rename(path)
    if work.is_dir():
        shutil.rmtree(work, ignore_errors=True)
        return
    with contextlib.suppress(OSError):  # of another user
        work.unlink()


def copy_folder(source: Path, path: Path) -> None:
    """Replace the folder ``path`` by copies of the files of ``source``.

    Raises:
        InputError: the path cannot be written.
    """
    with new_folder(path) as fresh:
        for file in source.iterdir():
            (fresh / file.name).write_bytes(file.read_bytes())


def check_writable(path: Path) -> None:
    """Fail before long work whose result could not be written to the file ``path``.

    Raises:
        InputError: the path cannot be written.
    """
    with _names(path):
        if path.is_dir():
            raise IsADirectoryError(21, os.strerror(21))
        with tempfile.TemporaryFile(dir=_parent(path)):
            pass


def check_space(path: Path, needed: int, *, content: str) -> None:
    """Fail before long work whose result would not fit on the disk of ``path``.

    Args:
        path: of a file or folder that may not exist yet.
        needed: bytes.
        content: what needs them, in the plural, for the message.

    Raises:
        InputError: fewer bytes are free.
    """
    free = free_space(path)
    if free < needed:
        raise InputError(
            f"{content} need {needed / _GB:,.2f} GB, but the disk of {path} has {free / _GB:,.2f} GB free: "
            f"lower their number, or free {(needed - free) / _GB:,.2f} GB"
        )


def free_space(path: Path) -> int:
    """Bytes that are free on the disk of a file or folder, which may not exist yet."""
    return shutil.disk_usage(_nearest(path)).free


def on_one_disk(one: Path, other: Path) -> bool:
    """Whether two paths, which may not exist yet, lie on the same disk."""
    return _nearest(one).stat().st_dev == _nearest(other).stat().st_dev


def _nearest(path: Path) -> Path:
    """The path, or the nearest of its parents that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _parent(path: Path) -> Path:
    """The folder of ``path``, made where it is missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # mkdir raises it where a file stands in place of a folder
        raise NotADirectoryError(20, os.strerror(20)) from error
    return path.parent


def _sweep(path: Path) -> None:
    """Remove the unfinished files and folders that killed processes left beside ``path``."""
    for left in path.parent.glob(f".{path.name}.*.*"):
        owner = left.name.split(".")[-2]
        if owner.isdigit() and not _alive(int(owner)):
            _remove(left, path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextlib.contextmanager
def _names(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into an InputError that names the path."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def sync_all(folder: Path) -> None:
    """Make the content of a folder survive a power failure."""
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def point(link: Path, target: str | Path) -> None:
    """Make a symbolic link, or move it, in one step: a reader sees the old target or the new one."""
    fresh = link.with_name(f".{link.name}.next")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
