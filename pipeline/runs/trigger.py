"""Whether a scheduled run trains: something changed, and a reason that the settings name holds.

``python -m pipeline.runs.trigger`` prints the decision for the current folder as JSON.
"""

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pipeline import programs
from pipeline.errors import InputError, StageError, shown_message
from pipeline.files import formats, surface_tables
from pipeline.registry import champion_model, registry
from pipeline.registry.champion_model import Champion
from pipeline.report import drift, motion_drift
from pipeline.report.drift import Watched
from pipeline.report.verdict import DRIFT
from pipeline.settings.params import Params, read_params
from pipeline.settings.prepare import PrepareParams, QuotesPrepare
from pipeline.settings.retrain import RetrainParams
from pipeline.sources import own_file, quotes
from pipeline.sources.one_surface import titles
from pipeline.sources.vector_file import read_vectors
from vae.runtime import SurfaceModel, VectorModel

_RESULTS, _SURFACES = Path("results"), Path("data/surfaces")


class Situation(NamedTuple):
    """The facts that a decision is made from.

    Attributes:
        changed: names of inputs and settings that differ from those of the last run, by stage; empty if none does.
        newest: number of the newest version; None if none is registered.
        age_days: age of the newest version.
        unlikely_share: share of unlikely surfaces among the incoming ones; None if they are not watched.
    """

    changed: Mapping[str, Sequence[str]]
    newest: str | None
    age_days: float
    unlikely_share: float | None


class Decision(NamedTuple):
    """Whether to run, and the reason in one line."""

    run: bool
    reason: str


def decide(found: Situation, settings: RetrainParams) -> Decision:
    """Run if no version is registered, or if something changed and one of the reasons that the settings name holds."""
    if found.newest is None:
        return Decision(run=True, reason="no version is registered yet")
    if not found.changed:
        return Decision(run=False, reason=f"nothing new: data, code and settings are those of version {found.newest}")
    changed = "; ".join(f"{stage}: {', '.join(names)}" for stage, names in found.changed.items())
    share = found.unlikely_share
    watched = "no surfaces to watch" if share is None else f"{share:.1%} of the incoming surfaces are unlikely"
    holds = {
        "change": (True, ""),
        "drift": (share is not None and share > settings.odd_share, watched),
        "age": (found.age_days > settings.age_days, f"version {found.newest} is {found.age_days:.1f} days old"),
    }
    facts = "".join(f"{text}; " for name in settings.when if (text := holds[name][1]))
    if any(holds[name][0] for name in settings.when):
        return Decision(run=True, reason=f"{facts}changed: {changed}")
    return Decision(run=False, reason=f"changed, but {facts.removesuffix('; ')}: no reason to train ({changed})")


def situation_in(folder: Path, params: Params) -> Situation:
    """The situation in a folder with the stages.

    Raises:
        InputError: the incoming surfaces cannot be read.
        StageError: DVC or the registry failed, or the champion cannot be trusted: a version that is trained could not
            be registered beside it, and hours later is too late to say so.
    """
    block = params.register_
    incoming = Path(params.retrain.incoming).absolute() if params.retrain.incoming else None
    changed = changes(folder, params.prepare)
    with registry.opened(model=block.model, experiment=block.experiment) as models:
        newest = models.get(registry.CHALLENGER)
        age = (datetime.now(UTC) - newest.created).total_seconds() / 86_400.0 if newest else 0.0
        champion = champion_model.read(models) if changed or incoming else None
        share = unlikely_share(champion, incoming, params, folder) if champion and incoming else None
    return Situation(changed, newest.number if newest else None, age, share)


def changes(folder: Path, prepare: PrepareParams) -> dict[str, list[str]]:
    """Names of changed inputs and settings by stage, as DVC reports them; the user's own file among them.

    Raises:
        InputError: the user's file cannot be read.
        StageError: DVC failed.
    """
    with contextlib.chdir(folder):
        own_file.write_record(prepare, own_file.RECORD)  # what the stage source does, which always counts as changed
    status = json.loads(programs.text("dvc", "status", "--json", folder=folder).splitlines()[-1])
    status.pop(own_file.STAGE, None)
    own = {str(own_file.RECORD): str(own_file.own_file(prepare))}
    return {stage: sorted(own.get(name, name) for name in _names(entries)) for stage, entries in status.items()}


def _names(entries: list[str | dict[str, dict[str, object]]]) -> set[str]:
    """Paths and parameters that the entries of a stage in DVC's status name."""
    names = set()
    for entry in entries:
        if isinstance(entry, str):
            names.add(entry)
            continue
        for changed in entry.values():
            for name, inner in changed.items():
                names |= set(inner) if isinstance(inner, dict) else {name}
    return names


def unlikely_share(champion: Champion, incoming: Path, params: Params, folder: Path) -> float | None:
    """Share of a file's surfaces or vectors that score below 99 % of the champion's held-out data; None for none.

    None too where the champion's bundle has another format: then the code is new, which is a reason to run. The page of
    the drift, which shows what the share was made from, is written to the results in ``folder``.

    Raises:
        InputError: the file cannot be read.
    """
    model = champion.model
    if model is None:
        return None
    found = watched(model, incoming, params.prepare)
    rule = drift.Rule(params.retrain.odd_share, "drift" in params.retrain.when)
    test = drift.of_test_split(model, folder / _SURFACES, motion=False)
    name = f"{params.register_.model} version {champion.version.number}"
    formats.write_bytes(folder / _RESULTS / DRIFT, drift.drift_page(name, test, found, rule).encode())
    return drift.unlikely_share(found.scores)


def watched(
    model: SurfaceModel | VectorModel, incoming: Path, prepare: PrepareParams | None, *, motion: bool = False
) -> Watched:
    """The scores of a file: vectors, a table of surfaces, or quotes such as ``prepare`` reads.

    Args:
        model: that scores it.
        incoming: the file.
        prepare: how quotes are read; None where no settings say that.
        motion: whether the law of motion scores the dates too.

    Raises:
        InputError: the file cannot be read.
    """
    if isinstance(model, VectorModel):
        return Watched(model.score(read_vectors(incoming, model.dimension)))
    dates = None
    if isinstance(prepare, QuotesPrepare) and not surface_tables.numbers_surfaces(incoming):
        quoted = quotes.read(prepare.quotes.model_copy(update={"path": str(incoming)}), model.grid)
        price = quoted.conditions.get(motion_drift.underlying_of(model) or "")
        dates = motion_drift.Dates(quoted.iv, quoted.dates, price, quoted.markets)
        found = Watched(model.score(quoted.iv), quoted.dates, titles(quoted))
    else:
        found = Watched(model.score(surface_tables.read_on_grid(incoming, model.grid)))
    return found._replace(motion=motion_drift.of_incoming(model, dates) if motion else motion_drift.left_out(model))


if __name__ == "__main__":
    try:
        settings = read_params()
        situation = situation_in(Path(), settings)
    except InputError as error:
        print(f"retrain: {shown_message(error)}", file=sys.stderr)
        sys.exit(2)
    except StageError as error:
        print(f"retrain failed: {shown_message(error)}", file=sys.stderr)
        sys.exit(1)
    decision = decide(situation, settings.retrain)
    print(json.dumps({**decision._asdict(), "registered": situation.newest is not None}))
