"""A server that is asked to end by a signal at any moment."""

import subprocess
import sys
import threading

from deploy.server.stop import Stop

# The signal arrives at the first line below ``wait``, then at the second, and so on.
_INTERRUPTED = """
import signal, sys
from deploy.server.stop import stop_at_signals

def arrives_in(lines):
    def trace(frame, event, argument):
        nonlocal lines
        lines -= event == "line"
        if lines == 0:
            signal.raise_signal(signal.SIGTERM)
        return trace
    return trace

for lines in range(1, 40):
    with stop_at_signals() as stop:
        sys.settrace(arrives_in(lines))
        stop.wait(0.001)
        sys.settrace(None)
        stop.set()
        assert stop.is_set() and stop.wait(0.0)
print("ends")
"""


def test_a_signal_may_arrive_anywhere_in_a_wait() -> None:
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED], check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("ends\n", 0), done.stderr


def test_all_threads_that_wait_are_told() -> None:
    stop = Stop()
    assert not stop.is_set()
    assert not stop.wait(0.0)
    told: list[bool] = []
    threads = [threading.Thread(target=lambda: told.append(stop.wait(60.0))) for _ in range(3)]
    for thread in threads:
        thread.start()
    stop.set()
    for thread in threads:
        thread.join()
    assert told == [True] * 3
