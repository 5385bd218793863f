"""Failures and latency of the server while its model is exchanged, beside the latency while it is not, in turns.

python -m benchmarks.exchanges --count 1000
"""

import sys
import tempfile
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

import click
import numpy as np

from benchmarks.clients import clients
from benchmarks.server import BUNDLE, closed_loop, infer, open_loop
from benchmarks.soak import Models, serving
from vae.runtime import SurfaceModel

_CONNECTIONS = 16
_POLL = 0.05  # seconds between two looks of the server for a model, and of this program for its line
_TAKES = '"serves a model"'


class Exchanges:
    """Exchanges of the model, each after the server took the one before.

    Attributes:
        count: of those that the server took.
    """

    def __init__(self, models: Models, log: TextIO) -> None:
        self.count = 0
        self._models, self._log = models, log

    def follow(self, done: threading.Event) -> None:
        """Exchange the model until the end."""
        self._log.read()  # of the models before
        while not done.is_set():
            self._models.swap()
            while _TAKES not in self._log.read():
                if done.wait(_POLL):
                    return
            self.count += 1


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False), default=BUNDLE)
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--load", "share", type=click.FloatRange(0.01, 1.0), default=0.25, show_default=True, help="Of all.")
def main(bundle: Path, count: int, share: float) -> None:
    """Exchange the model of a server of BUNDLE under load. The exit code is 1 if a request was lost."""
    latents = SurfaceModel.load(bundle, provider="cpu", threads=1).latents
    request = infer(np.zeros((1, latents), np.float32), binary=True)
    seconds: dict[str, list[float]] = {"quiet": [], "exchanged": []}
    lost = 0
    with tempfile.TemporaryDirectory(prefix="volvae-exchanges-") as folder:
        models, log = Models(bundle, Path(folder)), Path(folder, "log")
        with serving(models.link, 1, log, poll=_POLL) as (_, port), log.open() as lines:
            rate = share * closed_loop(port, request)
            exchanges = Exchanges(models, lines)
            while exchanges.count < count:
                for name, following in (("quiet", nullcontext()), ("exchanged", clients(1, exchanges.follow))):
                    with following:
                        outcome = open_loop(port, request, rate=rate, connections=_CONNECTIONS)
                    seconds[name] += outcome.served
                    lost += outcome.failed + outcome.refused
                quiet, exchanged = (1e3 * np.quantile(seconds[name], 0.99) for name in ("quiet", "exchanged"))
                print(
                    f"{exchanges.count:,} exchanges, {sum(map(len, seconds.values())):,} answers, {lost} lost, "
                    f"p99 {quiet:.1f} ms, {exchanged:.1f} ms while exchanged: {exchanged / quiet:.2f} times",
                    flush=True,
                )
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
