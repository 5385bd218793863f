"""Coverage that looks away from other packages finds the same lines and branches of ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

OWN = """
from foreign import slow, fails

def loops(n):
    for i in range(n):
        x = slow(i)
        y = x
        yield y
    if n > 100:
        never = 0
    last = slow(n)
    yield last

def deep(n):
    if n:
        a = deep(n - 1)
        b = slow(n)
        return a + b
    first = slow(0)
    return first

def mends():
    try:
        fails()
    except ValueError:
        mended = 1
    return mended

list(loops(3))
deep(3)
mends()
"""
FOREIGN = """
def slow(x):
    y = x
    return y

def fails():
    raise ValueError
"""
PLAIN = "import own\n"
LEFT_OUT = """
import sys
sys.path.append(sys.argv[1])
from tests import untraced
untraced.OURS = (sys.argv[2],)
untraced.FOREIGN = {"foreign": ("slow", "fails")}
untraced.leave_out_foreign_code()
import own
"""


def measured(folder: Path, root: Path, program: str) -> dict[str, dict]:
    """Lines and branches that coverage finds in a run of a program, by file."""
    (folder / "program.py").write_text(program)
    for command in (
        ["run", "--branch", "--include=own.py,foreign.py", "program.py", root, folder / "own.py"],
        ["json", "-o", "found.json"],
    ):
        environment = {**os.environ, "COVERAGE_FILE": ".coverage"}
        subprocess.run([sys.executable, "-m", "coverage", *command], cwd=folder, env=environment, check=True)
    return json.loads((folder / "found.json").read_text())["files"]


@pytest.mark.slow
def test_the_same_lines_and_branches_are_found(tmp_path: Path, root: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "foreign.py").write_text(FOREIGN)
    plain, left_out = (measured(tmp_path, root, program) for program in (PLAIN, LEFT_OUT))
    for part in ("executed_lines", "missing_lines", "executed_branches", "missing_branches"):
        assert left_out["own.py"][part] == plain["own.py"][part] != [], part
    assert "foreign.py" not in left_out
    assert plain["foreign.py"]["missing_lines"] == []
