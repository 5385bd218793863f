"""Whether a scheduled run has reason to train: something changed, and what the settings wait for came about.

``python -m pipeline.runs.trigger`` prints the decision for the current folder as JSON.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import InputError, StageError
from pipeline.files import surface_tables
from pipeline.registry import registry
from pipeline.registry.registry import Registry
from pipeline.runs import workspace
from pipeline.settings.params import Params, read_params
from pipeline.settings.retrain import RetrainParams

_ODD_PERCENT = 1.0


class Situation(NamedTuple):
    """What a decision rests on.

    Attributes:
        changed: what is not as in the last run, by stage; empty where nothing changed.
        newest: number of the newest version; None where none is registered.
        age_days: of the newest version.
        odd_share: of the incoming surfaces; None where they are not watched.
    """

    changed: Mapping[str, Sequence[str]]
    newest: str | None
    age_days: float
    odd_share: float | None


class Decision(NamedTuple):
    """Whether to run, and why or why not in one line."""

    run: bool
    reason: str


def decide(found: Situation, settings: RetrainParams) -> Decision:
    """Run if nothing is registered, or if something changed and one of the reasons that the settings name holds."""
    if found.newest is None:
        return Decision(run=True, reason="no version is registered yet")
    if not found.changed:
        return Decision(run=False, reason=f"nothing new: data, code and settings are those of version {found.newest}")
    changed = "; ".join(f"{stage}: {', '.join(things)}" for stage, things in found.changed.items())
    odd = found.odd_share
    watched = "no surfaces to watch" if odd is None else f"{odd:.1%} of the incoming surfaces are odd"
    holds = {
        "change": (True, ""),
        "drift": (odd is not None and odd > settings.odd_share, watched),
        "age": (found.age_days > settings.age_days, f"version {found.newest} is {found.age_days:.1f} days old"),
    }
    said = "".join(f"{text}; " for name in settings.when if (text := holds[name][1]))
    if any(holds[name][0] for name in settings.when):
        return Decision(run=True, reason=f"{said}changed: {changed}")
    return Decision(run=False, reason=f"changed, but {said.removesuffix('; ')}: no reason to train ({changed})")


def look(params: Params, folder: Path) -> Situation:
    """The situation in a folder with the stages.

    Raises:
        InputError: the incoming surfaces cannot be read.
        StageError: DVC or the registry refuses.
    """
    block = params.register_
    incoming = Path(params.retrain.incoming).absolute() if params.retrain.incoming else None
    changed = changes(folder)
    with registry.opened(model=block.model, experiment=block.experiment) as models:
        newest = models.get(registry.CHALLENGER)
        age = (datetime.now(UTC) - newest.created).total_seconds() / 86_400.0 if newest else 0.0
        odd = odd_share(models, incoming) if incoming else None
    return Situation(changed, newest.number if newest else None, age, odd)


def changes(folder: Path) -> dict[str, list[str]]:
    """What DVC finds changed, by stage.

    Raises:
        StageError: DVC refuses.
    """
    status = json.loads(workspace.output("dvc", "status", "--json", folder=folder).splitlines()[-1])
    return {stage: sorted(_things(entries)) for stage, entries in status.items()}


def _things(entries: list[str | dict[str, dict[str, object]]]) -> set[str]:
    """Paths and parameters that an entry of DVC's status names."""
    names = set()
    for entry in entries:
        if isinstance(entry, str):
            names.add(entry)
            continue
        for things in entry.values():
            for name, inner in things.items():
                names |= set(inner) if isinstance(inner, dict) else {name}
    return names


def odd_share(models: Registry, incoming: Path) -> float | None:
    """Share of surfaces in a file that are odder than 99 % of those that the champion learned; None without one."""
    champion = models.get(registry.CHAMPION)
    if champion is None:
        return None
    model = models.load(champion)
    percentile = model.score(surface_tables.read_on_grid(incoming, model.grid)).percentile
    known = percentile[np.isfinite(percentile)]
    return float((known < _ODD_PERCENT).mean()) if len(known) else None


if __name__ == "__main__":
    try:
        settings = read_params()
        situation = look(settings, Path())
    except InputError as error:
        print(f"retrain: {error}", file=sys.stderr)
        sys.exit(2)
    except StageError as error:
        print(f"retrain failed: {error}", file=sys.stderr)
        sys.exit(1)
    decision = decide(situation, settings.retrain)
    print(json.dumps({**decision._asdict(), "registered": situation.newest is not None}))
