"""How long OpenMP's waiting threads spin before they sleep; set before torch loads its OpenMP.

Training multiplies small matrices with several threads. Between two products a thread waits. By default it spins for
milliseconds, which is fast on an idle machine; beside busy processes it takes the core from the thread that has work,
and training slows many times over. docs/decisions/0012-waiting-threads.md has the figures.
"""

import os

BOUNDED = {"GOMP_SPINCOUNT": "3000"}  # some microseconds: the gap between two products, and no slice of the scheduler
SETTINGS = (*BOUNDED, "OMP_WAIT_POLICY")  # either is a choice of the user


def bound_spinning() -> None:
    """Let waiting threads of this process and its children sleep soon; a setting of the user stays."""
    if not any(name in os.environ for name in SETTINGS):
        os.environ.update(BOUNDED)
