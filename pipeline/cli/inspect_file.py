"""The command inspect: what a file of quotes holds, as plain values and as text."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cli import file_readings, params_yaml, quote_arbitrage, suggested_settings
from pipeline.cli.file_readings import Findings, Reading
from pipeline.cli.quotes_options import NO_DATE
from pipeline.cli.suggested_settings import Points
from pipeline.cli.table_shapes import number_of
from pipeline.errors import InputError, shown
from pipeline.settings.prepare import GridParams
from pipeline.sources import quote_assumptions, quotes
from pipeline.sources.quote_rows import EXPIRY, SURFACE, iso
from vae.surface.units import DAYS_PER_YEAR

_NEEDED = (
    "it needs columns of tenor, of strike or delta, and of vol or price: --columns names them; a table with several "
    "quotes a row (calls and puts, vols by strike or delta, risk reversals) needs a block of docs/quotes.md"
)
_REMEDY = re.compile(r"prepare\.quotes\.|(?<!\S)--(columns|date|set|vol-unit) ")  # what a refusal says to state
_CHECKED_SURFACES = 50  # for the filled share
_UNUSED = "not used"


def figures(path: Path, found: Findings) -> dict[str, Any]:
    """Format and columns of a file, and each way to read it with its figures."""
    source = found.source
    return {
        "path": str(path),
        "format": None if source.format is None else str(source.format),
        "columns": {name: _roles(found, name) for name in source.distinct_names},
        "flags": _flags(found),
        "date": found.date,
        "readings": [of_reading(reading) for reading in found.readings],
        "choices": file_readings.choices(found.readings) if len(found.readings) > 1 else [],
        "refusals": list(found.refusals),
    }


def of_reading(reading: Reading) -> dict[str, Any]:
    """Figures of the quotes by one reading, with the blocks of params.yaml that suit them."""
    table, params = reading.table, reading.params
    row = table.kept_rows
    start = table.starts(row, SURFACE)
    tenors = DAYS_PER_YEAR * table["tenor"][row]
    vols = 100.0 * table["vol"][row]
    known: dict[str, Any] = {
        "rows": len(table),
        "used": len(row),
        "rejected": {reason: count for reason, count in table.rejected.items() if count},
        "markets": list(table.markets),
        "first_date": iso(table["date"][row].min()),
        "last_date": iso(table["date"][row].max()),
        "surfaces": int(start.sum()),
        "expiries": int(table.starts(row, EXPIRY).sum()),
        "tenors_days": [float(tenors.min()), float(np.median(tenors)), float(tenors.max())],
        "vols_percent": [float(part) for part in np.quantile(vols, (0.0, 0.5, 1.0))],
        "forward": _forward(reading),
    }
    surface = np.cumsum(start) - 1
    deltas = params.columns.by_delta
    own = params.columns.strike is None
    place = table["coordinate"][row] if own else table["k"][row]
    points = Points(surface, table["tenor"][row], table["k"][row], place, deltas)
    rates = quote_arbitrage.rates(table)
    known |= {"assumed": _assumed(reading), "butterfly_rate": rates.butterfly, "calendar_rate": rates.calendar}
    known |= {"block": dict(reading.block), "undated": reading.block.get("date") == NO_DATE}
    try:
        grid = suggested_settings.grid(points)
    except ValueError as error:
        return {**known, "no_grid": str(error)}
    nodes = grid["nodes"]
    size = len(grid["tenors_days"]) * (nodes["count"] if isinstance(nodes, dict) else len(nodes))
    of_market = table["market"][row][start] if table.markets else np.zeros(known["surfaces"])
    by_market = np.unique(of_market, return_counts=True)[1].tolist()
    train = suggested_settings.training(by_market, size)
    return {**known, "grid": grid, "train": train, "filled_rate": _filled_rate(reading, grid)}


def text(found: Mapping[str, Any]) -> str:
    """The figures for people."""
    return "\n".join(map(shown, lines(found)))


def lines(found: Mapping[str, Any]) -> list[str]:
    """The lines of that, in which names stand as they are."""
    told = [": ".join(part for part in (found["path"], found["format"]) if part), "", "columns"]
    told += [f"  {name}: {role}" for name, role in found["columns"].items()]
    if found["date"]:
        told += ["", f"no column of dates; expiries less tenors give {found['date']}"]
    told += [
        f"{name} is true in {count:,} rows; {file_readings.option('drop_where', name)} leaves these out"
        for name, count in found["flags"].items()
    ]
    if not found["readings"]:
        mended = any(_REMEDY.search(why) for why in found["refusals"])
        refusals = [*found["refusals"], *([] if mended else [_NEEDED])]
        return [*told, "", "it cannot be read as it is:", *(f"  {why}" for why in refusals)]
    several = len(found["readings"]) > 1
    undated = any(reading["undated"] for reading in found["readings"])
    told += [f"not used: {why}" for why in found["refusals"]]
    for number, reading in enumerate(found["readings"]):
        title = f"reading {number + 1} of {len(found['readings'])}: {found['choices'][number]}" if several else "quotes"
        told += ["", title, *(f"  {line}" for line in _reading_text(reading))]
    if several:
        return [*told, "", "Only you know which to use: repeat the command with the options of one."]
    (reading,) = found["readings"]
    if undated:
        told += ["", "nothing says when its rows were quoted: `volvae init` needs it as --date YYYY-MM-DD"]
        reading = {**reading, "block": {**reading["block"], "date": "YYYY-MM-DD"}}
    return [*told, "", "params.yaml (`volvae init` writes it)", "", *params_yaml.text(reading).split("\n")]


def _reading_text(reading: Mapping[str, Any]) -> list[str]:
    rejected = sum(reading["rejected"].values())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in reading["rejected"].items())
    low, middle, high = reading["vols_percent"]
    days = [f"{day:.4g}" for day in reading["tenors_days"]]
    lines = [
        f"{reading['used']:,} of {reading['rows']:,} rows used, {rejected / reading['rows']:.1%} rejected"
        + (f": {reasons}" if reasons else ""),
        *([f"markets {', '.join(reading['markets'])}"] if reading["markets"] else []),
        f"{_count(reading['surfaces'], 'surface')} {_period(reading)}, {_expiries(reading)} of "
        f"{days[0]} to {days[2]} days, the median {days[1]}",
        f"vols from {low:.3g} % to {high:.3g} %, the median {middle:.3g} %",
    ]
    if reading["forward"]:
        lines.append(f"forwards from {reading['forward'][0]:.6g} to {reading['forward'][1]:.6g}")
    lines += [f"assumed: {assumption}" for assumption in reading["assumed"]]
    lines.append(
        f"static arbitrage of the quotes: butterflies beyond {quote_arbitrage.TOLERANCE:g} of the forward "
        f"{_share(reading['butterfly_rate'], 'of the smiles', 'not known, as no smile has three quotes')}, calendars "
        + _share(
            reading["calendar_rate"], "of neighbouring expiries", "not known, as no two expiries enclose the money"
        )
    )
    if "no_grid" in reading:
        lines.append(f"no grid suits all surfaces: {reading['no_grid']}")
    else:
        lines.append(f"the grid below is filled to {reading['filled_rate']:.0%}")
    if reading["surfaces"] < suggested_settings.FEWEST_SURFACES:
        lines.append(
            f"{_count(reading['surfaces'], 'surface')} cannot train a model, but the one that there is completes it"
        )
    return lines


def _roles(found: Findings, name: str) -> str:
    """The canonical column that a column is in a reading, or may be."""
    blocks = [reading.block for reading in found.readings]
    used = {role: None for block in blocks for role, own in file_readings.columns_of(block).items() if name in own}
    if not used and any("wide" in block for block in blocks) and number_of(name) is not None:
        return "vols"
    may = [canonical for canonical, names in found.candidates.items() if name in names]
    return ", ".join(used) or (f"{_UNUSED}; may be {', '.join(may)}" if may else _UNUSED)


def _flags(found: Findings) -> dict[str, int]:
    """Columns of true and false that are nothing else, with the number of rows that are true, which is not all."""
    source, flags = found.source, {}
    for name in source.distinct_names:
        if _roles(found, name) != _UNUSED:
            continue
        with contextlib.suppress(InputError):
            true = source.flags(name)
            flags[name] = int(true.sum()) if not true.all() else 0
    return {name: count for name, count in flags.items() if count}


def _expiries(reading: Mapping[str, Any]) -> str:
    return f"{reading['expiries']:,} {'expiry' if reading['expiries'] == 1 else 'expiries'}"


def _share(rate: float | None, of: str, unknown: str) -> str:
    return unknown if rate is None else f"in {rate:.1%} {of}"


def _count(count: int, name: str) -> str:
    return f"{count:,} {name}{'s' if count != 1 else ''}"


def _period(reading: Mapping[str, Any]) -> str:
    if reading["undated"]:
        return "without a date"
    first, last = reading["first_date"], reading["last_date"]
    return f"of {first}" if first == last else f"from {first} to {last}"


def _forward(reading: Reading) -> list[float] | None:
    """The lowest and highest forward that strikes are read with; None where no strike is."""
    table = reading.table
    if reading.params.columns.strike is None:
        return None
    row = table.kept_rows
    forward = table["coordinate"][row] * np.exp(-table["k"][row])
    return [float(forward.min()), float(forward.max())]


def _assumed(reading: Reading) -> list[str]:
    """Assumptions where nothing says otherwise: those of all commands, of names alone, and the kind of vols."""
    common = quote_assumptions.of(reading.table, reading.params, reading.guessed)
    lines = list(dict.fromkeys(map(str, (*common, *quote_assumptions.of_names(reading.params)))))
    if file_readings.may_be_normal(reading):
        lines.append(
            "vols are Black ones, of a price; --set vol_kind=normal reads normal ones, where forwards are rates of "
            "interest as of swaptions"
        )
    return lines


def _filled_rate(reading: Reading, grid: Mapping[str, Any]) -> float:
    """The share of a grid's points that quotes reach, on surfaces spread over the file."""
    table, points = reading.table, GridParams.model_validate(grid).build()
    row = table.kept_rows
    surfaces = np.split(row, np.flatnonzero(table.starts(row, SURFACE))[1:])
    chosen = surfaces[:: -(-len(surfaces) // _CHECKED_SURFACES)]
    return float(np.mean([np.isfinite(quotes.surface_of(table, own, points)).mean() for own in chosen]))
