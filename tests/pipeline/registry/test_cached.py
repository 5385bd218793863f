"""A damaged object of DVC's cache is found, named, and mended by the command that the message states."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.registry import cached
from tests.repositories import repro

_PIPELINE = """
stages:
  first:
    cmd: mkdir made && printf one > made/a && printf two > made/b
    deps: [code.py]
    outs: [made]
  second:
    cmd: cp made/a copy && printf s >> copy
    deps: [made]
    outs: [copy]
"""


@pytest.fixture
def project(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two stages, which ran."""
    (repository / "dvc.yaml").write_text(_PIPELINE)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    repro(repository)
    monkeypatch.chdir(repository)
    return repository


def objects() -> dict[str, Path]:
    """Objects of the cache by content."""
    return {path.read_text(): path for path in Path(".dvc/cache/files/md5").rglob("*") if path.is_file()}


def damage(path: Path) -> None:
    """Change a byte, and leave size and time."""
    status, content = path.stat(), path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.chmod(0o444)


@pytest.mark.slow
@pytest.mark.parametrize("content", ["two", "ones", "[{"])
def test_a_damaged_object_is_named_and_the_command_mends_it(project: Path, content: str) -> None:
    cached.check_all()
    (bad,) = (path for text, path in objects().items() if text.startswith(content))
    output = Path("copy" if content == "ones" else "made")
    damage(bad)
    (shutil.rmtree if output.is_dir() else Path.unlink)(output)
    if content != "[{":  # DVC itself cannot read such a list
        repro(project)
    with pytest.raises(InputError) as raised:
        cached.check_all()
    assert str(bad) in str(raised.value)
    (command,) = re.findall("`(rm [^`]*)`", str(raised.value))
    subprocess.run(command, shell=True, check=True)
    repro(project)
    cached.check_all()


def test_a_stage_does_not_read_what_differs_from_the_lock(project: Path) -> None:
    cached.check_inputs("second", [Path("made"), Path("copy"), Path("params.yaml")])
    Path("copy").write_text("else")
    cached.check_inputs("second", [Path("made"), Path("copy")])  # its own output
    Path("made/a").chmod(0o644)
    Path("made/a").write_text("else")
    with pytest.raises(InputError, match=r"^made is not what dvc\.lock records; run `dvc repro`$"):
        cached.check_inputs("second", [Path("made"), Path("copy")])


@pytest.mark.slow
def test_the_command_ends_with_one_line(project: Path, root: Path) -> None:
    command = [sys.executable, "-m", "pipeline.registry.cached"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    assert subprocess.run(command, check=False, env=environment).returncode == 0
    Path("copy").unlink()
    found = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (2, "volvae: copy is missing; run `dvc repro`\n")
