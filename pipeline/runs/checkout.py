"""The clean checkout in which scheduled runs work."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline import programs
from pipeline.errors import InputError
from pipeline.files.atomic import point
from pipeline.programs import ProgramError
from pipeline.registry import dvc_lock, git_state
from pipeline.runs.lock import heal

SCHEDULED = Path(".scheduled")  # the checkout, inside the folder whose commit it holds
_SOURCES = (".py", ".yaml", ".yml", ".toml", ".dvc")  # endings of files that decide what a run does
_NAMED = 3  # changed files that a refusal names
_MALFORMED = 1  # exit code of `git fsck` where all objects are whole, and some have a form that git no longer writes


def check_clean(folder: Path) -> None:
    """Refuse a working tree whose clean checkout would run something else.

    Changes of files that git tracks are such, and new files of code or settings. Other new files are outputs of
    commands or data; a checkout needs none of them.

    Raises:
        InputError: the tree differs from its commit, or the folder is in no git repository.
    """
    if not git_state.read(folder).commit:
        raise InputError(f"{folder.absolute()} is no git repository with a commit; a clean run needs one")
    changed = _changes(folder)
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        raise InputError(
            f"{folder.absolute()} differs from its commit ({', '.join(changed[:_NAMED])}{more}); commit that, or let "
            "--allow-dirty run the commit without it"
        )


def _changes(folder: Path) -> list[str]:
    """Changed files that git tracks, then new files of code or settings; not dvc.lock, which DVC rewrites."""
    tracked = programs.text("git", "diff", "--name-only", "-z", "HEAD", "--", ".", f":!{dvc_lock.LOCK}", folder=folder)
    new = programs.text("git", "ls-files", "--others", "--exclude-standard", "-z", "--", ".", folder=folder)
    names = [*tracked.split("\0"), *(name for name in new.split("\0") if name.endswith(_SOURCES))]
    return [name for name in names if name]


def check_out(source: Path, lock: int) -> Path:
    """The clean checkout of ``source`` at its commit; both share one DVC cache.

    The folder is kept from run to run, with the outputs of DVC in it and the checkpoints of a killed run.

    Args:
        source: the folder with the user's repository.
        lock: descriptor of the checkout's lock, which git and DVC hold too as long as they live.

    Raises:
        StageError: git or DVC failed.
    """
    folder = source / SCHEDULED
    # In a checkout without a repository git must not take the one around it, which is the user's.
    git = partial(programs.text, "git", lock=lock, GIT_CEILING_DIRECTORIES=str(source.absolute()))
    _mend(folder, git)
    git("init", "--quiet", str(folder), folder=source)
    git("config", "gc.autoDetach", "false", folder=folder)  # else one that tidies up outlives the run, with its lock
    git("fetch", "--quiet", str(source.absolute()), "HEAD", folder=folder)
    git("checkout", "--quiet", "--force", "--detach", "FETCH_HEAD", folder=folder)
    git("clean", "-ffdq", f"--exclude={dvc_lock.LOCK}", folder=folder)
    remote = git_state.read(source).remote
    if remote:
        git("config", "remote.origin.url", remote, folder=folder)
    local = source / ".dvc/config.local"
    if local.exists():  # it has the user's own remotes and their passwords
        (folder / ".dvc/config.local").write_bytes(local.read_bytes())
    dvc = partial(programs.text, "dvc", "cache", "dir", lock=lock)
    dvc("--local", dvc(folder=source), folder=folder)
    heal(folder)
    return folder


def _mend(folder: Path, git: Callable[..., str]) -> None:
    """Remove what a killed git or a power cut left of the checkout's repository, which `git init` does not mend."""
    kept = folder / ".git"
    for left in kept.rglob("*.lock"):  # of a git that was killed: who holds the folder's lock is alone
        if left.is_file():
            left.unlink(missing_ok=True)
    for written in (kept / "objects").rglob("*"):  # of a power cut; git believes that it has an object that is empty
        if written.is_file() and not written.stat().st_size:
            written.unlink()
    if kept.exists():
        try:
            git("fsck", "--no-dangling", "--no-progress", folder=folder)
        except ProgramError as error:
            if error.code > _MALFORMED:  # nothing there is the user's own: all is fetched again
                shutil.rmtree(kept)


def link(path: Path, *, source: Path, folder: Path) -> None:
    """Let a relative path, which git need not track, lead from the checkout ``folder`` to the file in ``source``."""
    if (source / path).exists() and not (folder / path).exists():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        point(folder / path, (source / path).absolute())
