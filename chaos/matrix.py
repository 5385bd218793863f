"""The table of faults and invariants that ``python -m chaos`` prints."""

import argparse
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from chaos import damage, histories, nth_call, remote, subjects, together
from chaos.faults import FAULTS
from chaos.nth_call import Row
from chaos.subjects import PATHS


def main() -> int:
    """Run the matrix; the exit code is 1 where an invariant did not hold."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, default=1_000_000, help="calls of a fault in a subject; all by default")
    parser.add_argument("--damages", type=int, default=2000, help="damaged files")
    parser.add_argument("--pairs", type=int, default=200, help="times that two do the same at once")
    parser.add_argument("--operations", type=int, default=2000, help="of four processes on one registry")
    transactions = (*subjects.NAMES, "none")
    parser.add_argument("--subject", action="append", choices=transactions, help="one or more; all by default")
    faults = [fault.name for fault in (*FAULTS, *remote.LOSSES)]
    parser.add_argument("--fault", action="append", choices=faults, help="one or more; all by default")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the trials of a row")
    parser.add_argument("--templates", type=Path, help="folder for the states before, to be used again")
    parser.add_argument(
        "--bundle", type=Path, help="of the versions; without it one is made, and the stages are struck"
    )
    asked = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory(prefix="volvae-chaos-") as folder:
        violations = print_rows(_rows(asked, Path(folder)))
    return int(violations > 0)


def print_rows(rows: Iterable[Row]) -> int:
    """Print rows as they come; the number of violations.

    Raises:
        SystemExit: there is no row, which would pass for a matrix without violations.
    """
    print(f"{'subject':10} {'fault':16} {'calls':>7} {'trials':>7} {'violations':>10}")
    violations = count = 0
    for row in rows:
        count += 1
        print(f"{row.subject:10} {row.fault:16} {row.calls:7} {row.trials:7} {len(row.violations):10}", flush=True)
        for violation in row.violations:
            print(f"    {violation.invariant}: {violation.trial}: {violation.found}", flush=True)
        violations += len(row.violations)
    if not count:
        raise SystemExit("python -m chaos: these options leave nothing to strike")
    return violations


def _rows(asked: argparse.Namespace, folder: Path) -> Iterable[Row]:
    templates = (asked.templates or folder / "templates").absolute()
    stages = [] if asked.bundle else subjects.of_stages(templates)
    bundle = asked.bundle or templates / "made/project" / PATHS["export"]["bundle"]
    registry = subjects.of_registry(templates, bundle.absolute())
    faults = tuple(fault for fault in FAULTS if asked.fault is None or fault.name in asked.fault)
    chosen = [subject for subject in (*stages, *registry) if asked.subject is None or subject.name in asked.subject]
    names = [subject.name for subject in chosen]
    losses = [loss for loss in remote.LOSSES if asked.fault is None or loss.name in asked.fault]
    on_server = remote.of_server(registry, templates, bundle.absolute()) if losses else []
    distant = [subject for subject in on_server if subject.name in names]
    subjects.rehearse([*chosen, *distant], folder / "rehearsal")
    shared = {"seed": asked.seed, "workers": asked.workers}
    for subject in chosen:
        yield from nth_call.rows(subject, folder / "trial", faults, most=asked.most, **shared)
    yield from remote.rows(distant, folder / "trial", losses, most=asked.most, **shared)
    if asked.pairs:
        yield from together.rows(chosen, folder / "trial", trials=asked.pairs, **shared)
    if asked.operations:
        yield histories.row(registry[0].template, folder / "history", operations=asked.operations, seed=asked.seed)
    if asked.damages:
        found = damage.readers(stages, registry)
        yield from damage.rows(found, folder / "trial", trials=asked.damages, **shared)
