"""Run a command that does not outlive its starter: ``python -m pipeline.runs.supervise COMMAND ...``.

The command runs in the process group of this process. Standard input closes when the starter ends, in whatever way.
Then the whole group is ended, so that a killed run leaves no process that writes to its folder.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL


def main(command: list[str]) -> int:
    """Run the command; its exit code, or 128 plus the number of the signal that ended it."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # the signal is for the command; this process reports its end
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_input, args=(process,), daemon=True).start()
    code = process.wait()
    os.killpg(0, signal.SIGTERM)  # ends processes that the command left behind
    return code if code >= 0 else 128 - code


def _end_with_input(process: subprocess.Popen[bytes]) -> None:
    """Wait until standard input closes, then end the process group."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.killpg(0, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
        return
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
