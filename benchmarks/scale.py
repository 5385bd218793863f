"""Cost, memory and disk of prepare and train by the number of surfaces, and whether the cost grows in proportion.

python -m benchmarks.scale --surfaces 100000 --surfaces 1000000

Each stage runs as `dvc repro` runs it, in a folder that is removed afterwards. Its cost is the time of all its
processes on a core, which other work on the machine hardly changes. What a few surfaces take - imports, compiled
kernels, the prior - is measured first and left out. The training has all that grows with the surfaces: their reading,
the components of their law, epochs with hidden points.
"""

import contextlib
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import click
import psutil
from ruamel.yaml import YAML

from benchmarks.cluster import cluster
from benchmarks.machine import machine
from pipeline import yaml_text
from pipeline.errors import InputError, StageError
from pipeline.files.atomic import check_space
from pipeline.settings.params import checked
from pipeline.settings.prepare import SimulatedPrepare
from pipeline.sources.simulated import bytes_of
from pipeline.sources.simulation import surface_bytes
from pipeline.train_checkpoint import CHECKPOINT

_ROOT = Path(__file__).parents[1]
_FEW = 4096  # surfaces whose cost is that of the start
_LIMIT = 1.25  # most that a surface among many may cost, in units of one among few
_LOOK, _WEIGH = 0.02, 0.2  # seconds between two looks at the checkpoint and at memory
_GB = 1e9
_PATHS = {
    "prepare": {"surfaces": "data/surfaces", "metrics": "prepare.json"},
    "train": {"surfaces": "data/surfaces", "model": "model", "metrics": "train.json", "curve": "curve.csv"},
}
# What does not grow with the surfaces is kept small, and all epochs are alike.
_TRAINING = {
    "device": "cpu",
    "scaffold_latents": 0,
    "checkpoint_epochs": 1,
    "arbitrage": {"epochs": 0},
    "prior": {"components": [1], "flow_layers": 0},
}


class Memory(NamedTuple):
    """Peaks of resident memory in bytes.

    Attributes:
        own: of all processes together, without mapped files.
        largest: of the process that has the most, likewise.
        mapped: files that are mapped, of the process that has the most; the system can drop them.
    """

    own: int = 0
    largest: int = 0
    mapped: int = 0


class Ran(NamedTuple):
    """The cost of a stage, and its memory.

    Attributes:
        seconds: of a core, of all processes.
        marks: seconds of a core when each checkpoint was written.
        memory: of all processes.
    """

    seconds: float
    marks: list[float]
    memory: Memory


class Row(NamedTuple):
    """The cost of the stages for some training surfaces, and their memory.

    Attributes:
        surfaces: number of them.
        cost: seconds of a core by part: ``prepare``, the ``start`` of train and its ``epoch``.
        prepare, train: peaks of memory.
        disk: bytes of the data set.
    """

    surfaces: int
    cost: dict[str, float]
    prepare: Memory
    train: Memory
    disk: int


@click.command()
@click.option("--surfaces", "sizes", type=click.IntRange(_FEW + 1), multiple=True, default=(100_000, 1_000_000),
              show_default=True, help="Training surfaces; give it several times.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(3), default=4, show_default=True)
@click.option(
    "--nodes", type=click.IntRange(4), default=41, show_default=True, help="Of a smile: fewer take less disk."
)
@click.option("--engine", type=click.Choice(["local", "dask"]), default="local", show_default=True,
              help="Of prepare; dask: two workers that are started for it.")  # fmt: skip
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="On the disk to use.")
def main(sizes: Sequence[int], epochs: int, nodes: int, engine: str, folder: Path | None) -> None:
    """Print a row for each size. The exit code is 1 where a surface among the most costs 1.25 times one among few.

    So it is where that is not known.
    """
    changes: dict[str, Any] = {"train": {**_TRAINING, "epochs": epochs}, "prepare": {"compiled": True}}
    changes["prepare"]["grid"] = {"nodes": {"start": -0.5, "stop": 0.4, "count": nodes}}
    try:
        with tempfile.TemporaryDirectory(prefix="volvae-scale-", dir=folder) as work:
            largest = settings(max(sizes), changes)
            check_space(Path(work), needed(largest), content=f"{max(sizes):,} surfaces")
            print(f"{machine()}; {engine}; surfaces of {nodes * 18} points")
            with _workers(Path(work), engine) as (address, processes):
                if address:
                    changes["prepare"] |= {"engine": "dask", "address": address}
                measured(_FEW, changes, Path(work), processes)  # compiles the kernels, which are kept
                rows = [measured(_FEW, changes, Path(work), processes)]
                print(TITLE, flush=True)
                for size in sorted(set(sizes)):
                    rows.append(measured(size, changes, Path(work), processes))
                    print(line(rows[0], rows[-1]), flush=True)
    except (InputError, StageError) as error:
        sys.exit(str(error))
    print(*(verdict(name, rows) for name in rows[0].cost), sep="\n")
    sys.exit(0 if all(growth(name, rows) <= _LIMIT for name in rows[0].cost) else 1)


def settings(size: int, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of params.yaml with so many training surfaces, and changes by block and key."""
    values: dict[str, Any] = yaml_text.load((_ROOT / "params.yaml").read_bytes())
    values["prepare"]["surfaces"]["train"] = size
    for block, keys in changes.items():
        for key, value in keys.items():
            own = values[block].get(key)
            values[block][key] = own | value if isinstance(own, dict) and isinstance(value, dict) else value
    return values


def needed(values: Mapping[str, Any]) -> int:
    """Bytes that the stages need on the disk, those of a shard that is being moved included."""
    prepare = checked(values, Path("params.yaml")).prepare
    if not isinstance(prepare, SimulatedPrepare):
        raise InputError(f"surfaces are simulated, but prepare.source is {prepare.source}")
    return bytes_of(prepare) + surface_bytes(prepare) * prepare.surfaces_per_shard


def measured(size: int, changes: Mapping[str, Mapping[str, Any]], work: Path, others: Sequence[psutil.Process]) -> Row:
    """Both stages in a folder of their own.

    Args:
        size: training surfaces.
        changes: of the settings.
        work: where the folder is made.
        others: processes that work for the stages and run on.
    """
    with tempfile.TemporaryDirectory(prefix=f"{size}-", dir=work) as name:
        folder = Path(name)
        YAML().dump(settings(size, changes), folder / "params.yaml")
        prepare, train = (ran(stage, folder, others) for stage in _PATHS)
        disk = sum(path.stat().st_size for path in (folder / "data/surfaces").iterdir())
    epoch = (train.marks[-1] - train.marks[0]) / (len(train.marks) - 1)
    cost = {"prepare": prepare.seconds, "start": train.marks[0] - epoch, "epoch": epoch}
    return Row(size, cost, prepare.memory, train.memory, disk)


def ran(stage: str, folder: Path, others: Sequence[psutil.Process] = ()) -> Ran:
    """Run a stage in a folder with a params.yaml.

    Raises:
        StageError: it failed; the message is the end of what it said.
    """
    paths = [part for name, path in _PATHS[stage].items() for part in (f"--{name}", path)]
    log, before = folder / "log", _seconds(others)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", stage, *paths],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdout=output,
            stderr=output,
        )
    try:
        marks, memory = _watched(process, others, folder / CHECKPOINT)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise StageError(f"{stage} failed:\n{log.read_text('utf-8', 'replace')[-2000:]}")
    return Ran(_seconds(others) - before, marks, memory)


def _seconds(others: Sequence[psutil.Process]) -> float:
    """Seconds of a core that ended children, theirs included, and other processes have taken so far."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(sum(process.cpu_times()[:2]) for process in others)


def _watched(
    child: subprocess.Popen[bytes], others: Sequence[psutil.Process], checkpoint: Path
) -> tuple[list[float], Memory]:
    """Look at a process until it ends: seconds of a core at each checkpoint, and peaks of memory."""
    marks: list[float] = []
    peak, written, weigh, process = Memory(), 0, 0.0, psutil.Process(child.pid)
    while child.poll() is None:
        with contextlib.suppress(psutil.Error, FileNotFoundError):  # it ends, or has no checkpoint yet
            if time.monotonic() >= weigh:
                weigh = time.monotonic() + _WEIGH
                peak = Memory(*map(max, peak, _weighed([process, *process.children(recursive=True), *others])))
            if (now := checkpoint.stat().st_mtime_ns) > written:
                written = now
                marks.append(sum(process.cpu_times()[:2]))
        time.sleep(_LOOK)
    return marks, peak


def _weighed(processes: Sequence[psutil.Process]) -> Memory:
    """The memory of processes now."""
    own, mapped = [0], [0]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found = process.memory_info()
            own.append(found.rss - found.shared)
            mapped.append(found.shared)
    return Memory(sum(own), max(own), max(mapped))


@contextlib.contextmanager
def _workers(folder: Path, engine: str) -> Iterator[tuple[str | None, list[psutil.Process]]]:
    """The address and the processes of a cluster of two workers where the engine needs one."""
    if engine == "local":
        yield None, []
    else:
        with cluster(folder, workers=2) as (address, started):
            yield address, [psutil.Process(process.pid) for process in started]


TITLE = (
    "            seconds of a core per million    own memory, GB (largest process)    mapped    disk\n"
    "  surfaces     prepare     start     epoch         prepare           train          GB      GB"
)


def line(few: Row, row: Row) -> str:
    """A row of the table."""
    costs = " ".join(f"{1e6 * per_surface(name, few, row):9.1f}" for name in row.cost)
    memories = " ".join(f"{each.own / _GB:9.2f} ({each.largest / _GB:.2f})" for each in (row.prepare, row.train))
    return f"{row.surfaces:10,}   {costs}  {memories}   {row.train.mapped / _GB:9.2f} {row.disk / _GB:7.2f}"


def per_surface(name: str, few: Row, row: Row) -> float:
    """Seconds of a core of a part for each surface beyond few."""
    return (row.cost[name] - few.cost[name]) / (row.surfaces - few.surfaces)


def growth(name: str, rows: Sequence[Row]) -> float:
    """The cost of a surface among the most in units of one among the fewest; the first row is that of the start.

    NaN where one of the sizes costs no more than the start.
    """
    few, *others = rows
    each = [per_surface(name, few, row) for row in others]
    return each[-1] / each[0] if min(each) > 0.0 else math.nan


def exponents(name: str, rows: Sequence[Row]) -> list[float]:
    """Of the number of surfaces, to which the cost is in proportion from a row to the next; 1 is linear."""
    few, *others = rows
    more = [(row.surfaces - few.surfaces, row.cost[name] - few.cost[name]) for row in others]
    return [math.log(b[1] / a[1]) / math.log(b[0] / a[0]) for a, b in pairwise(more)]


def verdict(name: str, rows: Sequence[Row]) -> str:
    """How a part grows, in a line."""
    times = growth(name, rows)
    if math.isnan(times):
        return f"{name:8} not known: some of these surfaces cost no more than the start; give --surfaces larger numbers"
    found = exponents(name, rows)
    if not found:
        return f"{name:8} one size says nothing about growth"
    spread = f"exponent {min(found):.3f} to {max(found):.3f}" if len(found) > 1 else f"exponent {found[0]:.3f}"
    return f"{name:8} {spread}; a surface costs {times:.2f} times one among {rows[1].surfaces:,}: " + (
        "linear" if times <= _LIMIT else f"not linear, the limit is {_LIMIT}"
    )


if __name__ == "__main__":
    main()
