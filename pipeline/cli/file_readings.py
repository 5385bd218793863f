"""The ways in which a file of quotes can be read: settings made of its columns, each tried by prepare's reader.

Names and values of columns make candidates (``column_names``). A candidate is a reading where the reader takes it: the
checks of units, markets and parity stand there, and nowhere else. Two readings of the same quotes are one.
"""

import json
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from pipeline.cli import quote_arbitrage
from pipeline.cli.column_names import (
    FIELD_NAMES,
    MOMENTS,
    TEXTS,
    Array,
    Column,
    candidates,
    says_basis_points,
    says_normal,
)
from pipeline.cli.quotes_options import ALTERNATIVES, NO_DATE, ReadingOptions, check_left_out, settings_of
from pipeline.cli.table_shapes import fx_parts, number_of, shapes, vols_by_delta
from pipeline.errors import InputError, in_one_line
from pipeline.settings.params import check_keys_of_quotes, read_quotes
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import usable_quotes
from pipeline.sources.columns import Columns
from pipeline.sources.quote_rows import EXPECTED_REASONS, TIMES, QuoteTable
from pipeline.sources.quote_summary import counts, unusable_rate
from pipeline.sources.quote_units import IN_ONE_UNIT
from pipeline.sources.usable_quotes import same_quotes
from pipeline.tables.name_words import plain, says_percent
from vae.surface.days import date_of
from vae.surface.plausible import MEDIAN_VOL, VOL_UNITS, Interval, vol_readings
from vae.surface.units import DAYS_PER_YEAR

Block = Mapping[str, Any]
Value = TypeVar("Value")

_TENORS = (("tenor_years",), ("days",), ("tenor",), ("expiry",))
# Tried where the reader refuses a candidate and names the key as its remedy.
_MENDS: tuple[Mapping[str, Any], ...] = (
    {"rate_unit": "percent"},
    {"rate_unit": "decimal"},
    {"strike_scale": 1000.0},
    {"strike_scale": 100.0},
    {"price_unit": "underlying"},
    {"delta_sign": "absolute"},
    {"delta_unit": "percent"},
)
_FX_ROLES = ("atm", "risk_reversal", "butterfly")
_LARGEST_MARKETS = 0.5  # of the rows: a column with more names names options
_SAME_DAY = 1.5  # days between the earliest and the latest date that expiries less tenors give
_MOST_ARBITRAGE = 0.25  # of the smiles of a reading that is taken beside others
_PLAIN_SCALAR = re.compile(r"(?!(?:true|false|yes|no|on|off|null)$)[A-Za-z_][A-Za-z0-9_ .()/-]*", re.IGNORECASE)
_CONTRACT = re.compile(r"[A-Z.^]{1,6} *[0-9]{6}[CP][0-9]{8}|[A-Z_]+-[0-9]{1,2}[A-Z]{3}[0-9]{2}-[0-9]+-[CP]")
# Of rates of interest as forwards: what they may be, decimal, and their units, as forwards of 0.03, 3 and 300.
_RATES, _RATE_UNITS = Interval(0.002, 0.2), (1.0, 100.0, 10_000.0)
_NORMAL_VOL, _NORMAL_SHARE = Interval(0.001, 0.035), Interval(0.1, 3.0)  # of rates: decimal, and of the forward
_SMALLEST_GAP = 0.001  # decimal, of strikes from their forward: those of swaptions are 25 basis points or more
_STEP = 0.0005  # decimal: strikes that lie off their forwards by multiples are relative ones, as of swaptions
_MOST_STEPS = 0.95  # of the strikes
_SAME_OFFSETS = 0.5  # of the different strikes: as few offsets, where those of all expiries are the same
_UNIT_OF_BASIS_POINTS = dict(zip(_RATE_UNITS, ("bp", "percent", "decimal"), strict=True))  # in units of the forward
_VOLS = {"vol_unit": "decimal", "vol_kind": "black"}  # what the settings take without a word
_MOSTLY_EMPTY = 0.5  # of its cells
_FEWEST_DELTAS = 2  # columns named by deltas that make a table of them
_UNDATED = "no column says when its rows were quoted, from which dates of expiry count: --date YYYY-MM-DD says it"


class Reading(NamedTuple):
    """A way to read the file.

    Attributes:
        block: settings of ``prepare.quotes`` as plain values.
        params: the same, parsed.
        table: the quotes with k and vol.
        guessed: keys of the block that neither the user nor a name states, as only they make the numbers plausible.
    """

    block: Block
    params: QuotesParams
    table: QuoteTable
    guessed: Collection[str] = ()


class Findings(NamedTuple):
    """The columns of a file, and the ways to read it.

    Attributes:
        source: its columns.
        candidates: columns of the file by canonical name, best first.
        readings: each reads other quotes, the most likely first.
        refusals: why columns or candidates were not taken, for each a line.
        date: of all rows, as expiries less tenors give it; None where a column has the dates, or nothing has.
    """

    source: Columns
    candidates: Mapping[str, Sequence[str]]
    readings: Sequence[Reading]
    refusals: Sequence[str]
    date: str | None


def find(path: Path, given: ReadingOptions, date: str | None = None) -> Findings:
    """The readings of a file.

    Args:
        path: the file.
        given: options; what they say of columns and keys is taken as fact.
        date: of all rows, for a file that does not say it.

    Raises:
        InputError: the file cannot be read.
    """
    found = _findings(path, given, date)
    refused = any("decimal_mark" in why for why in found.refusals)
    if found.readings or refused or not found.source.unclear:
        return found
    decimals = _findings(path, given._replace(values={**given.values, "decimal_mark": ","}), date)
    return decimals if decimals.readings else found


def _findings(path: Path, given: ReadingOptions, date: str | None) -> Findings:
    """The readings of a file, whose commas are thousands where nothing shows what they are."""
    kinds = given.values
    source = Columns.read(path, sheet=kinds.get("sheet"), decimal_mark=kinds.get("decimal_mark"), takes_unclear=True)
    given = _checked(source, given)
    columns = {name: _column(source, name, kinds.get("date_format")) for name in source.distinct_names}
    others = {name: column for name, column in columns.items() if name not in given.columns.values()}
    able = {**candidates(others), **{key: [name] for key, name in given.columns.items()}}
    named = {key: names for key, names in able.items() if key not in given.left_out}
    if given.settings is not None:
        return _by_settings(source, named, path, given, date)
    _check_one_thing_each(path, given.columns)
    dated = next((named[key][0] for key in ("date", "snapshot") if key in named), None)
    if date is not None and dated is not None:
        raise InputError(f"{path}: column {dated} says when its rows were quoted; --date is for a file that does not")
    shown = None if date or "date" in named or "snapshot" in named else _date_shown(columns, named)
    readings: list[Reading] = []
    refusals: dict[str, None] = dict.fromkeys(_unstated(columns, named, given))
    for block in _blocks(path, columns, named, given, date or shown):
        undated = block.get("date") == NO_DATE and "expiry" in block["columns"]
        reading, why = (None, _UNDATED) if undated else _tried(block, given)
        if reading is None:
            refusals.setdefault(why)
        elif not any(same_quotes(reading.table, other.table) for other in readings):
            readings.append(reading)
    likely, unlikely = _by_arbitrage(readings)
    lines = [*_misfits(columns, able), *_unread(source, able), *refusals, *unlikely]
    return Findings(source, named, likely, lines, shown)


def _checked(source: Columns, given: ReadingOptions) -> ReadingOptions:
    """The options, with columns by their names in the file.

    Raises:
        InputError: there is no such key of ``prepare.quotes`` or no such column, or a key has no such value.
    """
    check_keys_of_quotes({**given.values, "columns": {**given.columns, **dict.fromkeys(given.left_out)}})
    missing = [name for name in given.columns.values() if name not in source]
    if missing:
        raise InputError(f"{source.path} {source.lack(*missing)}")
    names = {name.casefold(): name for name in source.distinct_names}
    return given._replace(columns={key: names.get(name.casefold(), name) for key, name in given.columns.items()})


def _check_one_thing_each(path: Path, columns: Mapping[str, str]) -> None:
    """Raise InputError where the user names one column as two things that are no times."""
    keys: dict[str, str] = {}
    for key, name in columns.items():
        if key not in TIMES and keys.setdefault(name, key) != key:
            raise InputError(f"{path}: --columns names column {name} as {keys[name]} and as {key}; it is one of them")


def _by_settings(
    source: Columns, named: Mapping[str, Sequence[str]], path: Path, given: ReadingOptions, date: str | None
) -> Findings:
    """The reading of a file by settings that the user names, which are taken as they are."""
    params = settings_of(path, given, date=date)
    reading, why = _read(params.model_dump(mode="json", exclude_none=True, exclude_unset=True))
    return Findings(source, named, [] if reading is None else [reading], [] if reading is not None else [why], None)


def columns_of(block: Block) -> dict[str, list[str]]:
    """The columns of the file by what they are in a block, with those of calls and puts."""
    found = {role: [name] for role, name in block["columns"].items()}
    fx = block.get("fx", {})
    for part in (fx, *fx.get("wings", ())):
        found |= {role: [*found.get(role, ()), part[role]] for role in _FX_ROLES if role in part}
    for side in block.get("call_put", {}).values():
        for role, name in side.items():
            found.setdefault(role, []).append(name)
    return found


def choices(readings: Sequence[Reading]) -> list[str]:
    """For each of several readings the options that choose it."""
    flat = [{**reading.block, **reading.block["columns"]} for reading in readings]
    keys = [key for key in dict.fromkeys(key for one in flat for key in one) if key not in ("columns", "path")]
    differing = [key for key in keys if len({str(one.get(key)) for one in flat}) > 1]
    return [_options(reading.block, differing) for reading in readings]


def _options(block: Block, keys: Sequence[str]) -> str:
    columns = [f"{key}={block['columns'][key]}" for key in keys if key in block["columns"]]
    stated = {"vol_kind": _VOLS["vol_kind"], **block}
    values = [option(key, stated[key]) for key in keys if key in stated and key != "vol_unit"]
    unit = [f"--vol-unit {block.get('vol_unit', 'decimal')}"] if "vol_unit" in keys else []
    return " ".join([*([f"--columns {shlex.quote(','.join(columns))}"] if columns else []), *unit, *values])


def option(key: str, value: object) -> str:
    """The option that sets a key of ``prepare.quotes``, as a shell takes it.

    >>> print(option("call_put", {"call": {"iv": "[C_IV]"}, "put": {"iv": "P_IV"}}))
    --set 'call_put={call: {iv: "[C_IV]"}, put: {iv: P_IV}}'
    """
    return f"--set {shlex.quote(f'{key}={_flow(value)}')}"


def _by_arbitrage(readings: Sequence[Reading]) -> tuple[list[Reading], list[str]]:
    """The readings without those with butterfly arbitrage in many smiles where others have less, and a line on each.

    Prices taken as vols have it.
    """
    rates = [quote_arbitrage.rates(reading.table).butterfly or 0.0 for reading in readings]
    likely, lines, options = [], [], choices(readings)
    for reading, rate, chosen in zip(readings, rates, options, strict=True):
        if rate <= _MOST_ARBITRAGE or rate == min(rates):
            likely.append(reading)
        else:
            lines.append(f"butterflies in {rate:.0%} of the smiles of another reading; {chosen} reads it")
    return likely, lines


def _misfits(columns: Mapping[str, Column], named: Mapping[str, Sequence[str]]) -> list[str]:
    """Columns that have a name of the field, but no values that go with it."""
    lines = []
    for name, column in columns.items():
        wanted = [canonical for canonical, names in FIELD_NAMES.items() if plain(name) in names]
        if wanted and column.numbers is not None and not any(name in found for found in named.values()):
            known = column.numbers[np.isfinite(column.numbers)]
            values = f"{known.min():.6g} to {known.max():.6g}" if len(known) else "no numbers"
            lines.append(f"column {name} is named as {' or '.join(wanted)}, but holds {values}")
    return lines


def _unread(source: Columns, named: Mapping[str, Sequence[str]]) -> list[str]:
    """Why columns are not read that are named as dates, or as numbers of quotes, and are nothing else."""
    lines = []
    for name in source.distinct_names:
        wanted = {canonical for canonical, names in FIELD_NAMES.items() if plain(name) in names}
        if not wanted or any(name in found for found in named.values()):
            continue
        try:
            if wanted & set(MOMENTS):
                source.instants(name)
            elif not wanted & {*TEXTS, "tenor"}:
                source.numbers(name, percent=True)
        except InputError as error:
            lines.append(in_one_line(error))
    return lines


def _unstated(columns: Mapping[str, Column], named: Mapping[str, Sequence[str]], given: ReadingOptions) -> list[str]:
    """Lines on a table of which only the user knows a part: conventions of deltas, the parts of names of contracts."""
    return [*_unstated_fx(columns, given), *_unstated_deltas(columns, given), *_contracts(columns, named)]


def _contracts(columns: Mapping[str, Column], named: Mapping[str, Sequence[str]]) -> list[str]:
    """Columns of names of contracts, whose parts no reader takes, in a file that has these nowhere else."""
    if "strike" in named and any(tenor in named for (tenor,) in _TENORS):
        return []
    lines = []
    for name, column in columns.items():
        contract = next((word for word in column.words[:1] if _CONTRACT.fullmatch(word)), None)
        if contract is not None:
            lines.append(
                f"column {name} holds names of contracts such as {contract}, which are not read: expiry, strike and "
                "type must be columns of their own"
            )
    return lines


def _unstated_deltas(columns: Mapping[str, Column], given: ReadingOptions) -> list[str]:
    """The option that reads vols in columns by delta, which are forward deltas or spot deltas."""
    deltas = vols_by_delta(columns)
    if len(deltas) < _FEWEST_DELTAS or "wide" in given.values:
        return []
    stated = option("wide", {"coordinate": "delta", "columns": deltas})
    return [
        f"columns {', '.join(deltas)} are vols by delta, of which only you know whether they are forward deltas: "
        f"state it by {stated}, and add --set delta_kind=spot where they are spot deltas; a column ATM has the delta "
        "that its convention gives"
    ]


def _unstated_fx(columns: Mapping[str, Column], given: ReadingOptions) -> list[str]:
    """The options that a table of risk reversals and butterflies needs, as no convention is right for all pairs."""
    parts = fx_parts(columns)
    if parts is None and "fx" in given.values:
        return [
            "--set fx=... is not used: no columns are named as at-the-money vols, risk reversals and butterflies, "
            "such as ATM, 25RR and 25BF"
        ]
    if parts is None or "fx" in given.values:
        return []
    names = [parts["atm"], *(wing[role] for wing in parts["wings"] for role in _FX_ROLES[1:])]
    return [
        f"columns {', '.join(names)} are at-the-money vols, risk reversals and butterflies, whose conventions only you "
        "know: state them by --set 'fx={delta: D, premium_adjusted: P, atm_strike: A, strangle: S}' with D forward, "
        "spot or spot_to_1y, P true or false, A delta_neutral, forward or spot, and S smile or market"
    ]


def _flow(value: object) -> str:
    """A value of YAML in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, str) and not _PLAIN_SCALAR.fullmatch(value):
        return json.dumps(value, ensure_ascii=False)  # [C_IV] alone would be a list
    return str(value)


def _column(source: Columns, name: str, date_format: str | Mapping[str, str] | None) -> Column:
    """The cells of a column as numbers, times or words."""
    numbers = _tried_as(lambda: source.numbers(name, percent=True))
    forms = (None, *date_format.values()) if isinstance(date_format, Mapping) else (date_format,)
    found = (_tried_as(lambda form=form: source.instants(name, date_format=form)) for form in forms)  # type: ignore[misc]
    moments = next((moments for moments in found if moments is not None), None)
    unclear = source.date_forms(name) if moments is None and date_format is None else []
    if unclear:  # the reader settles or refuses them
        return Column(numbers, source.instants(name, date_format=unclear[0]), (), unclear=True)
    if numbers is not None or moments is not None:
        return Column(numbers, moments, ())
    words = _tried_as(lambda: source.texts(name).values)
    return Column(None, None, words or (), labels=_tried_as(lambda: source.tenors(name)) is not None)


def _tried_as(read: Callable[[], Value]) -> Value | None:
    """A column by one of its readers, None where its cells are of another kind."""
    try:
        return read()
    except InputError:
        return None


def _date_shown(columns: Mapping[str, Column], named: Mapping[str, Sequence[str]]) -> str | None:
    """The date of all rows that the expiries less the tenors give, where these agree."""
    for tenor, size in (("tenor_years", DAYS_PER_YEAR), ("days", 1.0)):
        if "expiry" in named and tenor in named:
            moments, numbers = columns[named["expiry"][0]].moments, columns[named[tenor][0]].numbers
            if moments is None or numbers is None or columns[named["expiry"][0]].unclear:
                continue
            days = moments - size * numbers
            days = days[np.isfinite(days)]
            if len(days) and np.ptp(days) <= _SAME_DAY:
                return str(date_of(np.floor(np.median(days) + 0.5)))
    return None


def _blocks(
    path: Path,
    columns: Mapping[str, Column],
    named: Mapping[str, Sequence[str]],
    given: ReadingOptions,
    date: str | None,
) -> Iterator[dict[str, Any]]:
    """Settings that names and values of the columns suggest, the most usual first."""
    for (tenor,), shape in product(_TENORS, shapes(columns, named, given.values)):
        needed = (tenor, *shape.needed)
        if "fx" in given.values and "fx" not in shape.layout:
            continue
        if not all(name in named for name in needed) or _is_replaced(needed, given.columns):
            continue
        beside = tuple(name for name in shape.beside if name in named and name not in needed)
        own = _moments(columns, named, given.columns) | {name: named[name][0] for name in (*needed, *beside)}
        own |= given.columns
        places = [name for key, name in own.items() if key not in TIMES]
        if len(set(places)) < len(places):  # one column cannot be two things, but for times
            continue
        when = {} if "date" in own or "snapshot" in own else {"date": date or NO_DATE}
        stated = {key: value for key, value in given.values.items() if key != "fx"}
        block = {"path": str(path), **shape.layout, "columns": own, **when, **stated}
        for kind in _vol_kinds(columns, shape.vols, own, given.values):
            yield {**block, **kind}


def _is_replaced(names: Sequence[str], given: Mapping[str, str]) -> bool:
    """Whether the user names other columns in the place of these."""
    parts = [(set(group) & set(names), set(group) & set(given)) for group in ALTERNATIVES]
    return any(own and chosen and not own & chosen for own, chosen in parts)


def _moments(
    columns: Mapping[str, Column], named: Mapping[str, Sequence[str]], given: Mapping[str, str]
) -> dict[str, str]:
    """The columns that tell surfaces apart: the date, else the time of the snapshot, and the market."""
    when = next((name for part in (given, named) for name in ("date", "snapshot") if name in part), None)
    found = {} if when is None else {when: named[when][0]}
    for name in named.get("market", ()):
        rows = max((len(c.numbers) for c in columns.values() if c.numbers is not None), default=0)
        if 2 <= len(columns[name].words) <= _LARGEST_MARKETS * rows:
            return found | {"market": name}
    return found


def _vol_kinds(
    columns: Mapping[str, Column], vols: Sequence[str], own: Mapping[str, str], stated: Mapping[str, Any]
) -> list[dict[str, str]]:
    """The units and kinds that vols may have, as settings that are not stated; nothing to set for prices.

    Vols beside strikes and forwards that are rates of interest may be normal ones, as swaptions are quoted in.
    """
    numbers = [numbers for name in vols if (numbers := columns[name].numbers) is not None]
    known = np.concatenate([np.zeros(0), *numbers])
    known = known[np.isfinite(known) & (known > 0.0)]
    if not len(known):
        return [{}]
    median = float(np.median(known))
    found = [{"vol_unit": unit} for unit in vol_readings(median)]
    level = _level(columns, own)
    if all(number_of(name) is None and says_percent(name) for name in vols):
        found = [{"vol_unit": "percent"}]
    elif all(says_normal(name) for name in vols):
        units = _units_of_rates(median, level, basis_points=all(says_basis_points(name) for name in vols))
        found = [{"vol_kind": "normal", "vol_unit": unit} for unit in units or _normal_units(median, level)]
    elif stated.get("vol_kind") == "normal":
        found += [{"vol_kind": "normal", "vol_unit": unit} for unit in _normal_units(median, level)]
    elif _are_rates(columns, own, level):
        found += [{"vol_kind": "normal", "vol_unit": unit} for unit in _units_of_rates(median, level)]
    elif {"vol_unit": "bp"} in found and level > 0.0 and median / level in MEDIAN_VOL:  # in points of an index
        found.append({"vol_kind": "normal", "vol_unit": "decimal"})
    if all(says_basis_points(name) for name in vols):
        found = [kind for kind in found if kind["vol_unit"] == "bp" or "vol_kind" in kind]
    said = {key: stated[key] for key in _VOLS if key in stated}
    found = [kind for kind in found if said.items() <= {**_VOLS, **kind}.items()] or [{}]
    return [{key: value for key, value in kind.items() if key not in said and value != _VOLS[key]} for kind in found]


def _normal_units(vol: float, level: float) -> list[str]:
    """The units in which a number may be a normal vol beside a forward."""
    return [unit for unit, size in VOL_UNITS.items() if size * vol / level in MEDIAN_VOL] if level > 0.0 else []


def _units_of_rates(vol: float, level: float, *, basis_points: bool = False) -> list[str]:
    """The units in which a number may be a normal vol of rates of interest: basis points, or the unit of the forward.

    A normal vol is in units of the forward: 95 basis points are 95 percent of a forward of 3 for 3 %.
    """
    found = []
    for size in _RATE_UNITS:
        if level / size not in _RATES:
            continue
        for unit in dict.fromkeys((_UNIT_OF_BASIS_POINTS[size], *(() if basis_points else ("decimal",)))):
            normal = VOL_UNITS[unit] * vol / size
            if normal in _NORMAL_VOL and normal * size / level in _NORMAL_SHARE:
                found.append(unit)
    return list(dict.fromkeys(found))


def may_be_normal(reading: Reading) -> bool:
    """Whether Black vols of a reading could be normal ones, of which neither the file nor the user says a word."""
    params, table = reading.params, reading.table
    column = params.columns.iv or params.columns.bid_iv or ""
    if "vol_kind" in params.model_fields_set or params.columns.priced or says_percent(column):
        return False
    row = table.kept_rows
    vol = float(np.median(table["value"][row])) / VOL_UNITS[params.vol_unit]
    level = _median(table.get("forward", np.nan)[row])
    if params.columns.strike is None or "spot" in table:
        return False
    in_percent = level / _RATE_UNITS[1] in _RATES and "percent" in _units_of_rates(vol, level)
    return (level in _RATES and bool(_normal_units(vol, level))) or in_percent


def _level(columns: Mapping[str, Column], own: Mapping[str, str]) -> float:
    """The median forward, or spot, beside strikes; NaN where there is none."""
    return _median(_numbers(columns, own, "forward" if "forward" in own else "spot")) if "strike" in own else np.nan


def _are_rates(columns: Mapping[str, Column], own: Mapping[str, str], level: float) -> bool:
    """Whether forwards may be rates of interest, and not prices of a currency or a coin.

    Swaptions have no spot, and strikes that are tens of basis points off their forwards. Where forwards are in percent
    or basis points, and so are as large as many prices, strikes must be relative: at the same offsets from the forwards
    of all expiries, or at round ones from forwards that are not round.
    """
    strikes, forwards = _numbers(columns, own, "strike"), _numbers(columns, own, "forward")
    size = next((size for size in _RATE_UNITS if level / size in _RATES), None)
    if "spot" in own or size is None or strikes.shape != forwards.shape:
        return False
    gaps = np.abs(strikes - forwards) / size
    if not _median(gaps[gaps > 0.0]) >= _SMALLEST_GAP:
        return False
    relative = _are_offsets(strikes, forwards) or (_are_steps(gaps) and not _are_steps(forwards / size))
    return size == _RATE_UNITS[0] or relative


def _are_offsets(strikes: Array, forwards: Array) -> bool:
    """Whether strikes lie at the same few offsets from forwards that differ."""
    level = _median(forwards)
    offsets, places, levels = (
        len(np.unique(part[np.isfinite(part)].round(4)))
        for part in ((strikes - forwards) / level, strikes / level, forwards / level)
    )
    return levels > 1 and offsets <= _SAME_OFFSETS * places


def _are_steps(values: Array) -> bool:
    """Whether nearly all numbers are multiples of the step in which relative strikes are listed."""
    steps = values[np.isfinite(values)] / _STEP
    return bool(np.mean(np.abs(steps - np.rint(steps)) < 1e-3) > _MOST_STEPS) if steps.size else False


def _numbers(columns: Mapping[str, Column], own: Mapping[str, str], key: str) -> Array:
    """The numbers of a column by canonical name, NaN where there is none, [row] or []."""
    column = columns.get(own.get(key, ""))
    return np.array(np.nan) if column is None or column.numbers is None else column.numbers


def _median(values: Array) -> float:
    """The median of what is finite; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else np.nan


def _tried(block: dict[str, Any], given: ReadingOptions) -> tuple[Reading | None, str]:
    """The reading of a block, with the settings that mend it where there is one way alone; else why there is none."""
    reading, why = _read(block, given.left_out)
    if reading is not None or IN_ONE_UNIT in why:  # a setting would mend one column and spoil the other
        return reading, why
    mends = [mend for mend in _MENDS if not any(key in given.values for key in mend)]
    named = [mend for mend in mends if all(key in why for key in mend)]  # the reader's own remedy
    free = "spot" not in given.columns and "forward" not in given.left_out
    if free and "spot" in block["columns"] and "columns.forward" in why:
        own = block["columns"]
        named.append({"columns": {"forward" if key == "spot" else key: name for key, name in own.items()}})
    tried = [(mend, _read({**block, **mend}, given.left_out)[0]) for mend in named]
    found = [one._replace(guessed=[*mend]) for mend, one in tried if one is not None]
    if len(found) == 1:
        return found[0], ""
    return None, why


def _read(block: Block, left_out: Collection[str] = ()) -> tuple[Reading | None, str]:
    """The quotes by settings, or why the reader does not take them, or they have a column that is left out."""
    try:
        params = read_quotes(block)
        check_left_out(params, left_out)
        table = usable_quotes.read(params)
    except InputError as error:
        return None, in_one_line(error)
    if not table.kept.any():
        names = [name for names in columns_of(block).values() for name in names]
        return None, f"{params.path}: {', '.join(names)}: no row is a usable quote: {counts(table.rejected)}"
    if (rate := unusable_rate(table.rejected, len(table))) > params.max_rejected:
        return None, (
            f"{params.path}: {rate:.0%} of the rows are rejected: {counts(table.rejected, EXPECTED_REASONS)}"
            f"{_empty_columns(table, block)}; prepare.quotes.max_rejected allows {params.max_rejected:.0%}"
        )
    return Reading(block, params, table), ""


def _empty_columns(table: QuoteTable, block: Block) -> str:
    """The columns of a reading that are empty in most rows, as below cells that Excel merges."""
    names = dict.fromkeys(name for names in columns_of(block).values() for name in names)
    empty = [name for name in names if np.isnan(table.source.texts(name).code).mean() > _MOSTLY_EMPTY]
    return f"; most cells of {', '.join(empty)} are empty: each row needs its own" if empty else ""
