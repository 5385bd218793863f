"""Reads dvc.lock: DVC's hashes of what each stage reads and writes, and the settings that it ran with."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import yaml_text
from pipeline.errors import InputError

LOCK = Path("dvc.lock")

Stages = Mapping[str, Mapping[str, Mapping[str, str]]]  # stage -> ``deps`` or ``outs`` -> path -> DVC's hash


class Lock(NamedTuple):
    """The records of a dvc.lock.

    Attributes:
        stages: hashes of what each stage reads and writes.
        settings: of all stages, as dotted keys of params.yaml.
    """

    stages: Stages
    settings: Mapping[str, Any]


def recorded(lock: Path = LOCK) -> Stages:
    """DVC's hashes of the dependencies and outputs of each stage.

    Raises:
        InputError: dvc.lock is missing or damaged.
    """
    return read(lock).stages


def read(lock: Path) -> Lock:
    """The records of a dvc.lock.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        entries = yaml_text.load(lock.read_bytes())["stages"]
        stages = {
            name: {kind: {entry["path"]: entry["md5"] for entry in stage.get(kind, ())} for kind in ("deps", "outs")}
            for name, stage in entries.items()
        }
        blocks = [flatten(stage.get("params", {}).get("params.yaml", {})) for stage in entries.values()]
    except OSError as error:
        raise InputError(f"{lock} cannot be read: {error.strerror}; `dvc repro` writes it") from error
    except (yaml_text.TextError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{lock} is damaged; remove it, then `dvc repro` writes it anew") from error
    return Lock(stages, {key: value for block in blocks for key, value in block.items() if value is not None})


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys.

    >>> flatten({"train": {"model": {"latents": 5}, "epochs": 300}})
    {'train.model.latents': 5, 'train.epochs': 300}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat


def outputs(stages: Stages) -> dict[str, str]:
    """DVC's hashes of the outputs of all stages, by path."""
    entries = {path: digest for stage in stages.values() for path, digest in stage["outs"].items()}
    return dict(sorted(entries.items()))


def data_hashes(stages: Stages) -> dict[str, str]:
    """DVC's hashes of all dependencies and outputs but code, by path."""
    entries = {path: digest for stage in stages.values() for kind in stage.values() for path, digest in kind.items()}
    return {path: digest for path, digest in sorted(entries.items()) if not path.endswith(".py")}


def md5(path: Path) -> str:
    """DVC's hash of a file, or of a folder: the MD5 of the JSON list of its files."""
    if not path.is_dir():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
    files = (file for file in path.rglob("*") if file.is_file())
    listing = [{"md5": md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    content = json.dumps(sorted(listing, key=itemgetter("relpath")), sort_keys=True).encode()
    return hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir"
