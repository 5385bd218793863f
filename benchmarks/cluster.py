"""A Dask cluster on the loopback of this machine: a scheduler and its workers, one thread each."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_START = 60.0  # seconds until all have joined, beside other work


@contextlib.contextmanager
def cluster(folder: Path, *, workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler, and its process and those of the workers, which end with the block.

    Args:
        folder: for the file that tells the workers the address.
        workers: number of them.
    """
    from distributed import Client  # noqa: PLC0415 - an extra of its own

    file = str(folder / "scheduler.json")
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file]
    worker = [*dask, "worker", "--scheduler-file", file, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    worker += ["--local-directory", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in (scheduler, *[worker] * workers)
    ]
    try:
        with Client(scheduler_file=file, timeout=_START, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=_START)
            address = client.scheduler_info()["address"]
        yield address, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
