"""The state of the git repository: commit, remote, and changes as a patch."""

import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipeline import programs
from pipeline.credentials import without_credentials
from pipeline.programs import ProgramError
from pipeline.registry.dvc_lock import LOCK

_CODE = {".py", ".pyi", ".toml", ".yaml", ".yml", ".dvc"}  # suffixes of new files that a patch has
_LARGEST_CODE, _LARGEST_PATCH = 1_000_000, 10_000_000  # bytes of such a file and of a patch


class Git(NamedTuple):
    """State of a git repository; all fields are empty outside of one.

    Attributes:
        commit: hash of the commit that is checked out.
        remote: address of ``origin`` without credentials.
        changes: files that differ from the commit, as ``git status --porcelain`` lists them.
    """

    commit: str
    remote: str
    changes: str

    @property
    def dirty(self) -> bool:
        """Whether the working tree differs from the commit."""
        return bool(self.changes)


class Patch(NamedTuple):
    """Uncommitted changes.

    Attributes:
        text: that ``git apply`` reads; empty where there are none, or more than a patch may have.
        left_out: files whose changes it lacks.
    """

    text: str = ""
    left_out: tuple[str, ...] = ()


def read(folder: Path = Path()) -> Git:
    """State of the repository; dvc.lock does not count as a change, as DVC rewrites it while it runs."""
    return Git(
        commit=_answer("rev-parse", "HEAD", folder=folder),
        remote=without_credentials(_answer("remote", "get-url", "origin", folder=folder)),
        changes=_answer("status", "--porcelain", "--", ".", f":!{LOCK}", folder=folder),
    )


def patch() -> Patch:
    """Changes of tracked files and new files of code, as a patch, whatever git's settings are.

    Other new files may hold secrets or data. They are left out, and so is a file of code above 1 MB. A patch that is
    above 10 MB or no UTF-8 is left out as a whole.

    Raises:
        StageError: git fails.
    """
    if not _answer("rev-parse", "HEAD"):
        return Patch()
    git = partial(programs.output, "git")
    new = _names(git("ls-files", "--others", "--exclude-standard", "-z"))
    code = dict.fromkeys(name for name in new if _is_code(Path(name)))  # looked up for each of the new files
    left_out = tuple(name for name in new if name not in code and name != str(LOCK))
    with tempfile.TemporaryDirectory() as folder:
        changing = partial(git, GIT_INDEX_FILE=str(Path(folder) / "index"))  # leaves the index of the user unchanged
        changing("read-tree", "HEAD")
        changing("add", "--update", "--", ".", f":!{LOCK}")
        if code:
            listed = "\0".join(code).encode()  # there may be more than a command line takes
            changing(
                "--literal-pathspecs", "add", "--pathspec-from-file=-", "--pathspec-file-nul", standard_input=listed
            )
        changes = changing(
            "diff", "--cached", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/",
            "--dst-prefix=b/", "HEAD",
        )  # fmt: skip
    if len(changes) > _LARGEST_PATCH or not _is_text(changes):
        changed = _names(git("diff", "--name-only", "-z", "HEAD", "--", ".", f":!{LOCK}"))
        return Patch("", (*changed, *new))
    return Patch(changes.decode(), left_out)


def _is_code(path: Path) -> bool:
    return path.suffix in _CODE and path.is_file() and not path.is_symlink() and path.stat().st_size <= _LARGEST_CODE


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _names(listed: bytes) -> list[str]:
    """File names that git ends with zeros; a byte that is no UTF-8 is shown as its number."""
    return [name.decode(errors="backslashreplace") for name in listed.split(b"\0")[:-1]]


def _answer(*arguments: str, folder: Path = Path()) -> str:
    """The answer of git; empty where it fails, as it does outside of a repository."""
    try:
        return programs.text("git", *arguments, folder=folder)
    except (OSError, ProgramError):
        return ""
