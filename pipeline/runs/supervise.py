"""A command that does not outlive who started it: ``python -m pipeline.runs.supervise COMMAND ...``.

The command runs in this process's group. When standard input ends, as it does when the starter dies in whatever way,
the whole group is ended; so a killed run leaves nothing behind that writes to its folder.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 10.0  # between asking politely and not


def main(command: list[str]) -> int:
    """Run the command; its exit code, or 128 and the number of the signal that ended it."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # it is meant for the command, whose end this process reports
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_input, args=(process,), daemon=True).start()
    code = process.wait()
    os.killpg(0, signal.SIGTERM)  # what the command left behind
    return code if code >= 0 else 128 - code


def _end_with_input(process: subprocess.Popen[bytes]) -> None:
    """Wait until the starter closes the input or is gone, then end the group."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.killpg(0, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
        return
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
