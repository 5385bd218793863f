"""The lineage of an artifact: the code, data, settings, environment and machine that made it."""

import hashlib
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import yaml_text
from pipeline.credentials import without_credentials
from pipeline.errors import InputError, StageError
from pipeline.files import formats

LOCK = Path("dvc.lock")
REQUIREMENTS = Path("requirements.lock")
_CODE = {".py", ".pyi", ".toml", ".yaml", ".yml", ".dvc"}  # suffixes of new files that a patch has
_LARGEST_CODE, _LARGEST_PATCH = 1_000_000, 10_000_000  # bytes of such a file and of a patch
RUNS, PATCH = "runs.json", "changes.patch"  # files that are kept with a version
_RUNS = Path(".checkpoints/runs")
_PACKAGES = ("volvae", "torch", "numpy", "onnx", "onnxscript", "dvc", "mlflow")


Stages = Mapping[str, Mapping[str, Mapping[str, str]]]  # stage -> ``deps`` or ``outs`` -> path -> DVC's hash


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


class Lock(NamedTuple):
    """The records of a dvc.lock.

    Attributes:
        stages: hashes of what each stage reads and writes.
        settings: of all stages, as dotted keys of params.yaml.
    """

    stages: Stages
    settings: Mapping[str, Any]


class Run(NamedTuple):
    """Duration and device of the run of a stage on this machine."""

    seconds: float
    device: str


def git(folder: Path = Path()) -> Git:
    """State of the repository; dvc.lock does not count as a change, as DVC rewrites it while it runs."""
    return Git(
        commit=_run("git", "rev-parse", "HEAD", folder=folder).strip(),
        remote=without_credentials(_run("git", "remote", "get-url", "origin", folder=folder).strip()),
        changes=_run("git", "status", "--porcelain", "--", ".", f":!{LOCK}", folder=folder).rstrip(),
    )


def git_patch() -> Patch:
    """Changes of tracked files and new files of code, as a patch, whatever git's settings are.

    Other new files may hold secrets or data. They are left out, and so is code that is larger than code is. All is left
    out where the patch is no UTF-8.

    Raises:
        StageError: git fails.
    """
    if not _run("git", "rev-parse", "HEAD"):
        return Patch()
    new = _names(_git("ls-files", "--others", "--exclude-standard", "-z"))
    code = dict.fromkeys(name for name in new if _is_code(Path(name)))  # looked up for each of the new files
    left_out = tuple(name for name in new if name not in code and name != str(LOCK))
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}  # leaves the index of the user unchanged
        _git("read-tree", "HEAD", environment=index)
        _git("add", "--update", "--", ".", f":!{LOCK}", environment=index)
        if code:
            listed = "\0".join(code).encode()  # there may be more than a command line takes
            _git(
                "--literal-pathspecs", "add", "--pathspec-from-file=-", "--pathspec-file-nul",
                environment=index, standard_input=listed,
            )  # fmt: skip
        patch = _git(
            "diff", "--cached", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/",
            "--dst-prefix=b/", "HEAD", environment=index,
        )  # fmt: skip
    if len(patch) > _LARGEST_PATCH or not _is_text(patch):
        changed = _names(_git("diff", "--name-only", "-z", "HEAD", "--", ".", f":!{LOCK}"))
        return Patch("", (*changed, *new))
    return Patch(patch.decode(), left_out)


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


def recorded(lock: Path = LOCK) -> Stages:
    """DVC's hashes of the dependencies and outputs of each stage.

    Raises:
        InputError: dvc.lock is missing or damaged.
    """
    return read_lock(lock).stages


def read_lock(lock: Path) -> Lock:
    """The records of a dvc.lock.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        entries = yaml_text.load(lock.read_bytes())["stages"]
        stages = {
            name: {kind: {entry["path"]: entry["md5"] for entry in stage.get(kind, ())} for kind in ("deps", "outs")}
            for name, stage in entries.items()
        }
        blocks = [flatten(stage.get("params", {}).get("params.yaml", {})) for stage in entries.values()]
    except OSError as error:
        raise InputError(f"{lock} cannot be read: {error.strerror}; `dvc repro` writes it") from error
    except (yaml_text.TextError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{lock} is damaged; remove it, then `dvc repro` writes it anew") from error
    return Lock(stages, {key: value for block in blocks for key, value in block.items() if value is not None})


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys.

    >>> flatten({"train": {"model": {"latents": 5}, "epochs": 300}})
    {'train.model.latents': 5, 'train.epochs': 300}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat


def outputs(stages: Stages) -> dict[str, str]:
    """DVC's hashes of the outputs of all stages, by path."""
    entries = {path: digest for stage in stages.values() for path, digest in stage["outs"].items()}
    return dict(sorted(entries.items()))


def data_hashes(stages: Stages) -> dict[str, str]:
    """DVC's hashes of all dependencies and outputs but code, by path."""
    entries = {path: digest for stage in stages.values() for kind in stage.values() for path, digest in kind.items()}
    return {path: digest for path, digest in sorted(entries.items()) if not path.endswith(".py")}


def md5(path: Path) -> str:
    """DVC's hash of a file, or of a folder: the MD5 of the JSON list of its files."""
    if not path.is_dir():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
    files = (file for file in path.rglob("*") if file.is_file())
    listing = [{"md5": md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    content = json.dumps(sorted(listing, key=itemgetter("relpath")), sort_keys=True).encode()
    return hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir"


def seeds(settings: Mapping[str, object]) -> dict[str, object]:
    """The seed of each stage that has one, from flat settings."""
    return {name.removesuffix(".seed"): value for name, value in settings.items() if name.endswith(".seed")}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change the result."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def note_run(stage: str, metrics: Path, run: Run) -> None:
    """Store the run of a stage beside its checkpoints: not as an output, which must be the same in each run.

    Raises:
        InputError: the metrics cannot be read, or the note cannot be written.
    """
    with formats.reading(metrics):
        digest = md5(metrics)
    formats.write_json(_RUNS / f"{stage}.json", {**run._asdict(), "metrics_md5": digest})


def run_of(stage: str, metrics: Path) -> Run | None:
    """The run of a stage that made these metrics; None where they were made on another machine."""
    try:
        kept = json.loads((_RUNS / f"{stage}.json").read_text())
        return Run(kept["seconds"], kept["device"]) if kept["metrics_md5"] == md5(metrics) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _git(*arguments: str, environment: Mapping[str, str] | None = None, standard_input: bytes = b"") -> bytes:
    """Standard output of git.

    Raises:
        StageError: git fails.
    """
    found = subprocess.run(
        ["git", *arguments],  # noqa: S607 - the git of the user
        check=False, capture_output=True, input=standard_input, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    if found.returncode:
        said = " ".join(found.stderr.decode(errors="backslashreplace").split())
        raise StageError(f"git {' '.join(arguments)} failed: {said}")
    return found.stdout


def _run(*command: str, folder: Path = Path()) -> str:
    """Standard output of a command; empty where it fails, as git does outside a repository."""
    try:
        found = subprocess.run(
            command, check=True, capture_output=True, text=True, errors="backslashreplace", cwd=folder
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout
