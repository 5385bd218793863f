"""The ratios of former runs, and those that fell since: ``benchmarks/history.jsonl``, a line for each recorded run.

Ratios are measured in turns within one run, so that those of two runs on machines of one class compare. A figure whose
name has the word ``ratio`` or ``share_of`` is such a ratio, and is better the larger it is.
"""

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import InputError
from pipeline.files import formats

HISTORY = Path(__file__).with_name("history.jsonl")
MOST_FALLEN = 0.2  # share by which a ratio may fall; one machine measures the same to a tenth


class Fall(NamedTuple):
    """A ratio that fell."""

    name: str
    before: float
    now: float

    def __str__(self) -> str:
        """One line that names all three."""
        return f"{self.name} fell from {self.before:.3g} to {self.now:.3g}, by more than {100 * MOST_FALLEN:g} %"


def ratios(figures: Mapping[str, float]) -> dict[str, float]:
    """Those of the figures that are ratios.

    >>> ratios({"decode_ratio_to_numpy": 1.2, "sample_share_of_decode": 0.8, "decode_per_second": 4e5})
    {'decode_ratio_to_numpy': 1.2, 'sample_share_of_decode': 0.8}
    """
    return {name: value for name, value in figures.items() if "ratio" in name.split("_") or "share_of" in name}


def read(path: Path) -> list[dict[str, Any]]:
    """The recorded runs, oldest first; none where there is no file.

    Raises:
        InputError: a line is no run.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            found.append({"machine": str(entry["machine"]), "ratios": dict(entry["ratios"]), **entry})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"line {number} of {path} is no recorded run: {error!r}; remove the line") from error
    return found


def falls(figures: Mapping[str, float], entries: Iterable[Mapping[str, Any]], machine: str) -> list[Fall]:
    """The ratios that fell by more than ``MOST_FALLEN`` below their last value on a machine of this class."""
    last: dict[str, float] = {}
    for entry in entries:
        if entry["machine"] == machine:
            last |= entry["ratios"]
    return [
        Fall(name, last[name], now)
        for name, now in ratios(figures).items()
        if name in last and not now >= (1.0 - MOST_FALLEN) * last[name]
    ]


def record(figures: Mapping[str, float], machine: str, *, commit: str, date: dt.date, path: Path) -> None:
    """Add a run to the history."""
    entry = {"date": date.isoformat(), "commit": commit, "machine": machine, "ratios": ratios(figures)}
    before = path.read_text("utf-8") if path.exists() else ""
    formats.write_bytes(path, (before + json.dumps(entry, allow_nan=False) + "\n").encode())
