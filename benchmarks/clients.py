"""Clients that load a server together."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS = 60.0  # that one may take to end


@contextmanager
def clients(number: int, ask: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run ``ask`` in ``number`` threads. At the end of the block the event is set, and all threads are awaited."""
    done = threading.Event()
    threads = [threading.Thread(target=ask, args=(done,)) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(_SECONDS)
