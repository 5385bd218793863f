"""Waiting threads of PyTorch's OpenMP sleep soon, and numpy's OpenBLAS has one thread; set before these are loaded.

Training multiplies small matrices with several threads. Between two products a thread waits. By default it spins for
milliseconds, which is fast on an idle machine; beside busy processes it takes the core from the thread that has work,
and the work slows many times over. numpy multiplies matrices here that are too small for a second thread.
docs/decisions/0012-waiting-threads.md has the figures.
"""

import os

BOUNDED = {"GOMP_SPINCOUNT": "3000", "OPENBLAS_NUM_THREADS": "1"}  # turns of a loop: the gap between two products
_ALSO = {"GOMP_SPINCOUNT": "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS": "OPENBLAS_THREAD_TIMEOUT"}
SETTINGS = (*BOUNDED, *_ALSO.values())  # each is a choice of the user


def bound_threads() -> None:
    """Bound the threads of this process and its children; a setting of the user stays."""
    for name, value in BOUNDED.items():
        if name not in os.environ and _ALSO[name] not in os.environ:
            os.environ[name] = value
