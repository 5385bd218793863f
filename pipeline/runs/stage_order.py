"""The stages of dvc.yaml and their order."""

from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from pipeline import yaml_text
from pipeline.errors import InputError

_OUTPUTS = ("outs", "metrics", "plots")


def stage_order(path: Path = Path("dvc.yaml")) -> tuple[str, ...]:
    """Names of the stages, each after those whose outputs it reads.

    Raises:
        InputError: the file cannot be read, or is no DVC pipeline.
    """
    try:
        stages: dict[str, Any] = dict(yaml_text.load(path.read_bytes())["stages"])
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml_text.TextError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a DVC pipeline: {error}") from error
    makers = {out: name for name, stage in stages.items() for out in _outputs(stage)}
    sorter = TopologicalSorter(
        {name: {makers[dep] for dep in stage.get("deps", ()) if dep in makers} for name, stage in stages.items()}
    )
    return tuple(sorter.static_order())


def _outputs(stage: dict[str, Any]) -> list[str]:
    """Paths that a stage writes; an entry with options is a mapping with the path as its only key."""
    entries = [entry for kind in _OUTPUTS for entry in stage.get(kind, ())]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
