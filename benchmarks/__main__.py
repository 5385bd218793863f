"""All benchmarks, or those that are named: a line for each figure, and a file of them all.

Figures that are compared are measured in turns within one run, so that their ratio holds where the speed of the machine
changes. The ratios of recorded runs are in ``benchmarks/history.jsonl``; the exit code is 1 where one fell by more than
a fifth below its last value on a machine of the same class.
"""

import datetime as dt
import importlib
import subprocess
import sys
import time
from pathlib import Path

import click
import scipy.linalg  # noqa: F401 - it loads scipy's BLAS, as limits bind what is loaded already
import torch
from threadpoolctl import threadpool_limits

from benchmarks import card, history
from benchmarks.machine import machine
from benchmarks.serving import BUNDLE
from pipeline.errors import InputError, StageError
from pipeline.files import formats

# Each is the module of that name, whose function ``results`` measures and whose function ``verdicts``, if there is one,
# judges what was measured.
PARTS = (
    "heston",
    "american",
    "risk",
    "sharing",
    "startup",
    "serving",
    "off_grid",
    "outside",
    "static_arbitrage",
    "server",
    "training",
    "frames",
    "markets",
)
_OURS = ("benchmarks", "deploy", "pipeline", "vae")
_OF_A_BUNDLE = ("startup", "serving", "off_grid", "outside", "static_arbitrage", "server")


@click.command(help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--json", "document", default=Path("results/benchmarks.json"), show_default=True,
              type=click.Path(path_type=Path, dir_okay=False), help="File of all figures and the machine.")  # fmt: skip
@click.option("--history", "past", default=history.HISTORY, show_default="benchmarks/history.jsonl",
              type=click.Path(path_type=Path, dir_okay=False), help="File of the ratios of former runs.")  # fmt: skip
@click.option("--record", is_flag=True, help="Add the ratios to the history.")
def main(parts: tuple[str, ...], document: Path, past: Path, *, record: bool) -> None:
    """Measure on one core, training on all, print, and compare with former runs."""
    torch.set_num_threads(1)
    before, here = history.read(past), machine()
    figures: dict[str, float] = {}
    remarks: list[str] = []
    for name in parts or PARTS:
        start = time.monotonic()
        try:
            found, judged = measured(name)
        except (InputError, StageError) as error:
            print(f"{name} was left out: {error}", file=sys.stderr)
        else:
            figures |= found
            remarks += judged
            print(f"{name} took {time.monotonic() - start:.0f} seconds", file=sys.stderr)
    card.show(figures, *remarks)
    document.parent.mkdir(parents=True, exist_ok=True)
    formats.write_json(document, {"machine": here, "commit": _commit(), "figures": figures})
    fallen = history.falls(figures, before, here)
    for fall in fallen:
        print(fall, file=sys.stderr)
    if record:
        history.record(figures, here, commit=_commit(), date=dt.datetime.now(dt.UTC).date(), path=past)
    sys.exit(1 if fallen else 0)


def measured(name: str) -> tuple[dict[str, float], list[str]]:
    """The figures of one part, and its verdicts.

    Raises:
        InputError: what it measures, or is compared with, is not there.
        StageError: it cannot be made.
    """
    if name in _OF_A_BUNDLE and not BUNDLE.exists():
        raise InputError(f"{BUNDLE} does not exist; `make run` makes it")
    try:
        part = importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in _OURS:  # a fault of the code, which no installation mends
            raise
        raise InputError(f"{package} is not installed; `make bench` installs it") from error
    with threadpool_limits(1, user_api="blas"):  # of numpy and scipy, which take all cores otherwise
        found: dict[str, float] = part.results()
    return found, part.verdicts(found) if hasattr(part, "verdicts") else []


def _commit() -> str:
    """The commit of the code that was measured, or ``unknown``."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    main()
