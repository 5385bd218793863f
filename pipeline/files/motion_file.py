"""The law of motion of a trained model on disk, beside its weights, as safetensors."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.files import formats
from vae.dynamics.law import FORMS, Law, LawState

_FILE, _FACTS = "dynamics.safetensors", "facts"


class FittedMotion(NamedTuple):
    """A law of motion and where it stands.

    Attributes:
        law: in the coordinates of the model.
        state: at the close of ``date``.
        date: the last one that the law was fitted to, days since 1970-01-01.
        form: name of the law in ``FORMS``.
        underlying: the condition that holds the price of the underlying; None for a law without a return.
    """

    law: Law
    state: LawState
    date: int
    form: str
    underlying: str | None


def write(folder: Path, motion: FittedMotion) -> None:
    """Write the file to the folder of a model."""
    arrays = {
        name: np.ascontiguousarray(value) for name, value in (motion.law._asdict() | motion.state._asdict()).items()
    }
    facts = {"date": motion.date, "form": motion.form, "underlying": motion.underlying}
    formats.write_arrays(folder / _FILE, arrays, {_FACTS: json.dumps(facts)})


def read(folder: Path) -> FittedMotion | None:
    """The law of motion of the folder of a model; None where it has none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    arrays, metadata = formats.read_arrays(path)
    try:
        facts = json.loads(metadata[_FACTS])
        law = Law(**{name: arrays[name] for name in Law._fields if name in arrays})  # a file of before lacks new fields
        state = LawState._make(arrays[name] for name in LawState._fields)
        form = str(facts["form"])
        if form not in FORMS:
            raise ValueError(f"form {form!r}")
        return FittedMotion(law, state, int(facts["date"]), form, facts["underlying"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds no law of motion: {error!r}; run `dvc repro train`") from error
