"""Training by two processes beside one process, on the same two cores: epochs a second, and where a step spends them.

python -m benchmarks.processes

One process trains with one thread and with two; two processes, started by torchrun, with one thread each. They take
turns, each with processes of its own. Of the milliseconds of a step, `gradients` are those until a process has the
gradients of its rows, `optimiser` those in which it moves its parameters, and `sum` those of the exchange of gradients
and parameters, all of a core and so the same beside other work. `waiting` are those until the other process is as far.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from benchmarks import card
from benchmarks.machine import machine
from benchmarks.sharing import random_surfaces
from pipeline.settings.params import read_params
from pipeline.train import new_trainer
from vae.training.data_parallel import Replicas

SECONDS = 5.0
ROUNDS = 3
WAYS = {"one process, one thread": (1, 1), "one process, two threads": (1, 2), "two processes": (2, 1)}
_SURFACES, _VALIDATION = 32_768, 512
_SPEED, _CORE = "epochs a second", "core, ms a step"
_WAITING = "waiting"
_PARTS = ("gradients", "optimiser", "sum", _WAITING)


class Clock:
    """Seconds by part of a step: of a core, but those of waiting."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._since = self._now()

    def lap(self, part: str) -> None:
        """Count the time since the last lap to a part."""
        now = self._now()
        self.seconds[part] += now[part == _WAITING] - self._since[part == _WAITING]
        self._since = now

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.process_time(), time.perf_counter()


class TimedReplicas(Replicas):
    """Replicas that tell a clock how long they wait for each other and how long their sum takes."""

    clock = Clock()

    def add(self, parameters: Iterable[nn.Parameter], value: Tensor) -> Tensor:
        """As of ``Replicas``."""
        self.clock.lap("gradients")
        if self.count > 1:
            dist.barrier()
            self.clock.lap(_WAITING)
        found = super().add(parameters, value)
        self.clock.lap("sum")
        return found

    def share(self, tensors: Sequence[Tensor], owners: Sequence[int]) -> None:
        """As of ``Replicas``."""
        self.clock.lap("optimiser")
        if self.count > 1:
            dist.barrier()
            self.clock.lap(_WAITING)
        super().share(tensors, owners)
        self.clock.lap("sum")


def main() -> None:
    """Print the figures, or, as a process of a training, write those of it to a file."""
    if sys.argv[1:]:
        train(float(sys.argv[1]), Path(sys.argv[2]))
    else:
        print(machine())
        card.show(results())


def results(*, seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, float]:
    """Epochs a second of each way, their ratios, and milliseconds of a step by part."""
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for way in WAYS:
            found.setdefault(way, []).append(_trained(way, seconds))
    figures = {f"{way}: {name}": median(one[name] for one in each) for way, each in found.items() for name in each[0]}
    speed, core = ({way: figures[f"{way}: {name}"] for way in WAYS} for name in (_SPEED, _CORE))
    one, *_, two = WAYS
    ratios = {f"two processes, times {way}": speed[two] / speed[way] for way in WAYS if way != two}
    return figures | ratios | {"two processes, times one thread, by time of a core": core[one] / core[two]}


def _trained(way: str, seconds: float) -> dict[str, float]:
    """The figures of one training."""
    processes, threads = WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures.json")
        start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
        subprocess.run(
            [*start, "-m", "benchmarks.processes", str(seconds), str(file)],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=True,
            capture_output=True,
        )
        figures: dict[str, float] = json.loads(file.read_bytes())
        return figures


def train(seconds: float, file: Path) -> None:
    """Train as one of the processes that torchrun started; the first of them writes the figures to a file."""
    dist.init_process_group("gloo")
    replicas = TimedReplicas(dist.get_rank(), dist.get_world_size())
    params = read_params()
    surfaces = random_surfaces(_SURFACES + _VALIDATION, directions=params.train.model.basis)
    changes = {"epochs": 10_000, "scaffold_latents": 0}
    trainer = new_trainer(
        params.train.model_copy(update=changes), surfaces[:_SURFACES], surfaces[_SURFACES:], replicas=replicas
    )
    clock = replicas.clock
    register_optimizer_step_pre_hook(lambda *_: clock.lap("gradients"))
    register_optimizer_step_post_hook(lambda *_: clock.lap("optimiser"))
    epochs = trainer.epochs()
    next(epochs)  # warms up
    clock.seconds.clear()
    start, before, count, on = time.perf_counter(), time.process_time(), 0, torch.ones(())
    while on.item():
        next(epochs)
        count += 1
        on.fill_(time.perf_counter() - start < seconds)
        dist.all_reduce(on, dist.ReduceOp.MIN)  # all stop after the same epoch
    wall, core = time.perf_counter() - start, torch.tensor(time.process_time() - before)
    dist.all_reduce(core, dist.ReduceOp.MAX)  # of the process with more work
    steps = count * (_SURFACES // params.train.batch)
    if not replicas.rank:
        milliseconds = {f"{part}, ms a step": 1e3 * clock.seconds[part] / steps for part in _PARTS}
        file.write_text(json.dumps({_SPEED: count / wall, _CORE: 1e3 * core.item() / steps, **milliseconds}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
