"""How work beside the requests gives way to them."""

import os
import sys
import threading
from contextlib import suppress

_NICE = 10  # a busy core gives such a thread a tenth of what it gives another


def give_way() -> None:
    """Lower the priority of this thread, and of what it will start; only Linux knows one of threads."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # a filter of system calls may forbid it
            os.setpriority(os.PRIO_PROCESS, thread, max(_NICE, os.getpriority(os.PRIO_PROCESS, thread)))
