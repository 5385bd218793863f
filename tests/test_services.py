"""Programs that tests start."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import alive, wait_for

STARTER = """
import sys, time
from pathlib import Path
from tests.services import running

folder = Path(sys.argv[1])
with running([sys.executable, "-c", "import time; time.sleep(600)"], folder, folder / "log", {}) as process:
    print(process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv of util-linux")
def test_no_server_outlives_a_killed_run_of_the_tests(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(tmp_path)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as starter:
        server = int(starter.stdout.readline())
        name = Path(f"/proc/{server}/comm")
        wait_for(lambda: name.read_text().strip() != "setpriv", seconds=60, what="the server, which is told to follow")
        assert alive(server)
        os.kill(starter.pid, signal.SIGKILL)
    wait_for(lambda: not alive(server), seconds=60, what="the end of the server")
