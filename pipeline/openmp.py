"""How long waiting threads of OpenMP and OpenBLAS spin before they sleep; set before torch and numpy load them.

Training multiplies small matrices with several threads, and so do numpy's filters. Between two products a thread waits.
By default it spins for milliseconds, which is fast on an idle machine; beside busy processes it takes the core from the
thread that has work, and the work slows many times over. docs/decisions/0012-waiting-threads.md has the figures.
"""

import os

# The gap between two products, and no slice of the scheduler: turns of a loop, and the binary logarithm of clock ticks.
BOUNDED = {"GOMP_SPINCOUNT": "3000", "OPENBLAS_THREAD_TIMEOUT": "10"}
_ALSO = {"GOMP_SPINCOUNT": "OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT": "OPENBLAS_NUM_THREADS"}
SETTINGS = (*BOUNDED, *_ALSO.values())  # each is a choice of the user


def bound_spinning() -> None:
    """Let waiting threads of this process and its children sleep soon; a setting of the user stays."""
    for name, value in BOUNDED.items():
        if name not in os.environ and _ALSO[name] not in os.environ:
            os.environ[name] = value
