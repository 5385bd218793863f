"""The password of the Prefect servers that a user starts."""

import subprocess
import sys
from pathlib import Path

from pipeline.runs.prefect_server import password_file

MAKE = """
import sys
from pathlib import Path
from pipeline.runs.prefect_server import password_file
print(password_file(Path(sys.argv[1])).read_text(), end="")
"""


def test_only_the_user_may_read_the_password(tmp_path: Path) -> None:
    path = password_file(tmp_path / "new/home")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("volvae:")


def test_a_password_stays_and_is_of_one_home(tmp_path: Path) -> None:
    first = password_file(tmp_path / "a").read_text()
    assert password_file(tmp_path / "a").read_text() == first
    assert password_file(tmp_path / "b").read_text() != first


def test_processes_that_start_together_agree_on_the_password(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKE, str(tmp_path)]
    started = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["volvae-password"]
