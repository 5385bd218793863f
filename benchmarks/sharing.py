"""Speed of training on shared cores: epochs a second alone, and beside one busy process on each core.

Each figure comes from a process of its own, as OpenMP reads its settings once. All take turns within one run: with the
spin count that ``pipeline.openmp`` sets, and with OpenMP's default, alone and beside the busy processes.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import card
from pipeline import openmp

if TYPE_CHECKING:
    from torch import Tensor

_SECONDS = 4.0
_ROUNDS = 3
_SURFACES, _VALIDATION = 4096, 512
_POINTS = 18 * 41
_BUSY = "while True: pass"
_DEFAULT, _BOUNDED = "default", "bounded"


def main() -> None:
    """Print the figures, or, as a child, the epochs a second of one training."""
    if sys.argv[1:]:
        print(epochs_per_second(float(sys.argv[1])))
    else:
        card.show(results())


def results() -> dict[str, float]:
    """Epochs a second, and their ratios."""
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(_ROUNDS):
        for load in ("alone", "beside_busy"):
            with _busy_cores() if load == "beside_busy" else contextlib.nullcontext():
                for spinning in (_DEFAULT, _BOUNDED):
                    found.setdefault((load, spinning), []).append(_child(spinning))
    speed = {key: median(values) for key, values in found.items()}
    return {
        "training_epochs_per_second_alone": speed["alone", _BOUNDED],
        "training_alone_ratio_to_openmp_default": speed["alone", _BOUNDED] / speed["alone", _DEFAULT],
        "training_beside_busy_ratio_to_alone": speed["beside_busy", _BOUNDED] / speed["alone", _BOUNDED],
        "openmp_default_training_beside_busy_by_alone": (speed["beside_busy", _DEFAULT] / speed["alone", _DEFAULT]),
    }


def epochs_per_second(seconds: float) -> float:
    """Epochs a second of the network of params.yaml on random surfaces, which do not change the time of a step."""
    # Imported here, after OpenMP's settings are made.
    from pipeline.settings.params import read_params  # noqa: PLC0415
    from pipeline.train import new_trainer  # noqa: PLC0415

    params = read_params()
    surfaces = random_surfaces(_SURFACES + _VALIDATION, directions=params.train.model.basis)
    trainer = new_trainer(
        params.train.model_copy(update={"epochs": 10_000}), surfaces[:_SURFACES], surfaces[_SURFACES:]
    )
    epochs = trainer.epochs()
    next(epochs)  # warms up
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(epochs)
        count += 1
    return count / (time.perf_counter() - start)


def random_surfaces(count: int, *, directions: int) -> "Tensor":
    """Vols [count, point] that vary in so many directions."""
    import torch  # noqa: PLC0415

    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(count, directions, generator=generator)
    return 0.2 + 0.001 * factors @ torch.randn(directions, _POINTS, generator=generator)


def _child(spinning: str) -> float:
    """Epochs a second of a new process."""
    environment = {name: value for name, value in os.environ.items() if name not in openmp.SETTINGS}
    if spinning == _BOUNDED:
        environment |= openmp.BOUNDED
    command = [sys.executable, "-m", "benchmarks.sharing", str(_SECONDS)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@contextlib.contextmanager
def _busy_cores() -> Iterator[None]:
    """One process a core that does nothing but compute."""
    processes = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
