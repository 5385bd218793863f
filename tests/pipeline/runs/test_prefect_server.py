"""The password of the Prefect servers that a user starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError, StageError
from pipeline.runs import prefect_server
from pipeline.runs.prefect_server import own_login, password_file
from tests.services import saying

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


@pytest.mark.parametrize("content", [b"", b"\n", b"volvae:", b":secret", b"secret"])
def test_a_file_without_a_password_starts_no_server(tmp_path: Path, content: bytes) -> None:
    """A server without one obeys every web page."""
    (tmp_path / "volvae-password").write_bytes(content)
    with pytest.raises(InputError, match=r"volvae-password holds no user:password; delete it, and the next start"):
        own_login(tmp_path)


def test_a_password_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "volvae-password").write_bytes(b"volvae:\xff")
    with pytest.raises(InputError, match=r"of the Prefect server, in .* cannot be read"):
        own_login(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"of the Prefect server, in .* cannot be read"):
        own_login(tmp_path / "file")


@pytest.mark.slow
@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\0\0\0"])
def test_another_program_at_the_port_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, greeting: bytes
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    log = tmp_path / "server.log"
    refused = pytest.raises(StageError, match=r"the Prefect server at .* does not start; .* ends with: .+")
    with saying(greeting) as port, refused, prefect_server.running(port, log, "volvae:secret"):
        pass


def test_processes_that_start_together_agree_on_the_password(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKE, str(tmp_path)]
    started = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["volvae-password"]
