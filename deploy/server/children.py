"""Child processes, which end when the process that started them ends, however that ends."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

spawn = multiprocessing.get_context("spawn")


def with_parent(work: Callable[[], None]) -> None:
    """Do the work; finish, too, when the process that started this one dies."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    work()


def _stop_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
