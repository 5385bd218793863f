"""Dates and times written as text or numbers, in days since 1970-01-01."""

import datetime as dt
import re
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.tables.cell_errors import CellError, cells
from vae.surface.days import DAY, instant_of

Array = NDArray[np.float64]

ALLOWED = (
    "allowed: ISO dates (2023-02-15), 2023/02/15, 15-Feb-2023, yyyymmdd, days as Excel counts them (44972), seconds "
    "since 1970 or thousandths, millionths or billionths of them, or a column of dates; others by "
    "prepare.quotes.date_format"
)
_UNCLEAR = "which may be days as Excel counts them or dates without their leading zero"
_NO_DATE, _SETTING = "which is not a date", "prepare.quotes.date_format to"
_LAST_DAY = 2_932_896  # 9999-12-31, in days since 1970-01-01
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")  # fmt: skip
_CLOCK = r"(?:[T ]\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?P<fraction>\.\d{1,9})?)?"
_CLOCK += r"\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?)?"
_DAY, _MONTH, _NAME, _YEAR = r"(?P<day>\d{1,2})", r"(?P<month>\d{1,2})", r"(?P<name>[A-Za-z]{3,9})", r"(?P<year>\d{4})"
_FORMS = tuple(
    re.compile(rf"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? )?{form}{_CLOCK}", re.IGNORECASE)
    for form in (
        rf"{_YEAR}([-/.]){_MONTH}\2{_DAY}",
        rf"{_DAY}[-/. ]?{_NAME}[-/., ]*{_YEAR}",
        rf"{_NAME}[-. ]+{_DAY},?[- ]{_YEAR}",
        rf"{_YEAR}[- ]{_NAME}[- ]{_DAY}",
    )
)
# The end of a time that says its offset, and of a few that do not; no ISO date.
_ZONED = r"([0-9]\s*[A-Za-z]+|[^0-9-][0-9:.]+\s*[+-][0-9:]+)$"
_DIGITS = r"^[0-9]+(\.[0-9]*)?$"
_FIVE_DIGITS, _SIX_DIGITS = re.compile(r"[1-9][0-9]{4}"), re.compile("[0-9]{6}")
_MANY = 1000  # different texts, from which on Arrow's reader is tried first
# Seconds since 1970 and its parts, from 1980 to 2100: no two units share a magnitude, nor is one a yyyymmdd.
_EARLIEST, _LATEST = 3650 * 86_400.0, 47_482 * 86_400.0
_UNITS = (1.0, 1e3, 1e6, 1e9)
SERIAL = "excel"  # the form of numbers that are days as Excel counts them, beside those of strptime
EXCEL = -25_569  # 1899-12-30, from which Excel counts days, in days since 1970-01-01
_FIRST_DAY, _END_DAY = 7_305.0, 29_585.0  # 1990 to 2050, of days that Excel counts
_FIRST_YEAR, _LAST_YEAR = 1990, 2050
_SHORT = ("%m%d%y", "%d%m%y")  # of numbers that lost a leading zero; each that is a yymmdd of 2003 to 2005 is a ddmmyy


def of_text(column: pa.Array, form: str | None, *, excel: int = EXCEL) -> Array:
    """Days of a column of text, NaN where it is null, [row]; of a time with an offset the local ones.

    Args:
        column: text without blanks around it.
        form: how all cells are written, as ``datetime.strptime`` has it, or ``SERIAL``; None where that shows.
        excel: the day from which Excel counts, in days since 1970-01-01.

    Raises:
        CellError: a cell is no date, or could be two.
    """
    texts = pc.unique(column)
    index = pc.index_in(column, texts).to_numpy(zero_copy_only=False)
    found: Array = _of_texts(texts, form, excel)[index]
    wrong = np.isnan(found) & column.is_valid().to_numpy(zero_copy_only=False)
    if wrong.any():
        raise CellError(f"holds {cells(column, wrong)}, {_reason(column.filter(pa.array(wrong)), form, excel)}")
    return found


def of_numbers(numbers: Array, form: str | None = None, *, excel: int = EXCEL) -> Array:
    """Days of numbers, NaN where they are NaN, [row]: yyyymmdd, days of Excel, or times since 1970 in s, ms, us or ns.

    Args:
        numbers: the numbers.
        form: of those that may be days of Excel or dates without their leading zero, as of ``of_text``.
        excel: the day from which Excel counts, in days since 1970-01-01.

    Raises:
        CellError: a number is no date, or they are of different units.
    """
    found = _of_numbers(numbers, excel)
    wrong = np.isfinite(numbers) & np.isnan(found)
    unclear = wrong.any() and _are_serial(numbers[wrong], excel) and _short_forms(numbers[wrong])
    if unclear and form is not None:
        return of_text(_short_texts(numbers), form, excel=excel)
    if wrong.any():
        reason = f"{_UNCLEAR}: set {_SETTING} {_either([SERIAL, *unclear])}" if unclear else f"{_NO_DATE}; {ALLOWED}"
        raise CellError(f"holds {cells(pa.array(numbers), wrong)}, {reason}")
    return found


def forms_of_text(column: pa.Array, *, excel: int = EXCEL) -> list[str]:
    """The forms that read all cells of a column of text, where none shows; none where one does, or none reads them.

    Args:
        column: as of ``of_text``, and so is the other.
        excel: likewise.
    """
    texts = pc.unique(column.drop_null())
    return _forms(texts.to_pylist(), excel) if np.isnan(_of_texts(texts, None, excel)).any() else []


def forms_of_numbers(numbers: Array, *, excel: int = EXCEL) -> list[str]:
    """The same for numbers."""
    return forms_of_text(_short_texts(numbers).drop_null(), excel=excel)


def _short_texts(numbers: Array) -> pa.Array:
    """Numbers as text, without decimals where they are whole; null where they are NaN."""
    return pa.array([None if np.isnan(number) else f"{number:.15g}" for number in numbers], pa.large_string())


def of_times(column: pa.Array) -> Array:
    """Days of a column of dates or times, NaN where it is null, [row]; of times with a zone the local ones.

    Raises:
        CellError: the zone is unknown, or a date is beyond the calendar.
    """
    kind = column.type
    try:
        local = pc.local_timestamp(column) if pa.types.is_timestamp(kind) and kind.tz else column
        microseconds = local.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        days = np.array(microseconds.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)) / 86_400e6
    except pa.ArrowInvalid as error:
        raise CellError(f"cannot be read as dates: {error}") from error
    if (np.abs(days) > _LAST_DAY).any():
        raise CellError(f"holds dates beyond the year 9999; {ALLOWED}")
    return days


def offsets_of_text(column: pa.Array, form: str | None) -> Array:
    """Days by which the clocks of times are ahead of UTC, NaN where a cell does not say it or is no time, [row].

    Args:
        column: text as of ``of_text``.
        form: likewise.
    """
    texts = pc.unique(column)
    if form is None and pc.all(pc.match_substring_regex(texts, _DIGITS)).as_py():
        return offsets_of_numbers(np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False)))
    if form is None and not pc.any(pc.match_substring_regex(texts, _ZONED)).as_py():
        return np.full(len(column), np.nan)
    found = np.array([_offset(cell.as_py(), form) for cell in texts])
    rows: Array = found[pc.index_in(column, texts).to_numpy(zero_copy_only=False)]
    return rows


def offsets_of_numbers(numbers: Array) -> Array:
    """The same for numbers: 0 for times since 1970, NaN for others, [row]."""
    return np.full(len(numbers), np.nan if _unit(numbers[np.isfinite(numbers)]) is None else 0.0)


def offsets_of_times(column: pa.Array) -> Array:
    """The same for a column of dates or times, NaN without a zone, [row]."""
    if not pa.types.is_timestamp(column.type) or not column.type.tz:
        return np.full(len(column), np.nan)
    return of_times(column) - of_times(column.cast(pa.timestamp(column.type.unit)))


def _of_texts(texts: pa.Array, form: str | None, excel: int) -> Array:
    """Days of different texts, NaN where one is null or no date."""
    if form == SERIAL:
        return _of_serial(texts, excel)
    if form is None and pc.all(pc.match_substring_regex(texts, _DIGITS)).as_py():
        may_be_serial = not pc.any(pc.starts_with(texts, "0")).as_py()  # 040515 is no 40515
        numbers = np.array(texts.cast(pa.float64()).to_numpy(zero_copy_only=False))
        return _of_numbers(numbers, excel, may_be_serial=may_be_serial)
    days = _of_many(texts) if form is None and len(texts) > _MANY else None
    if days is not None:
        return days
    return np.array([np.nan if (text := cell.as_py()) is None else _of_one(text, form) for cell in texts])


def _of_serial(texts: pa.Array, excel: int) -> Array:
    """Days of texts that are days as Excel counts them, NaN where one is not."""
    digits = texts.fill_null("").to_pylist()
    numbers = np.array([float(text) if re.fullmatch(_DIGITS, text) else np.nan for text in digits])
    inside = (numbers + excel >= _FIRST_DAY) & (numbers + excel < _END_DAY)
    return np.where(inside, np.rint((numbers + excel) * 86_400.0) / 86_400.0, np.nan)


def _of_numbers(numbers: Array, excel: int, *, may_be_serial: bool = True) -> Array:
    """Days of numbers, NaN where one is no date, or all of them where no one unit reads all."""
    found = np.full(len(numbers), np.nan)
    known = np.isfinite(numbers)
    values = numbers[known]
    unit = _unit(values)
    if unit is not None:
        found[known] = values / unit / 86_400.0
    elif may_be_serial and _are_serial(values, excel) and not _short_forms(values):
        found[known] = np.rint((values + excel) * 86_400.0) / 86_400.0
    else:
        found[known] = _of_digits(values)
    return found


def _are_serial(values: Array, excel: int) -> bool:
    """Whether numbers are days as Excel counts them, with the time as their fraction."""
    days = values + excel
    return bool(((days >= _FIRST_DAY) & (days < _END_DAY)).all())


def _short_forms(values: Array) -> list[str]:
    """The formats by which serial days may as well be dates that lost a leading zero, as 40515 is 04/05/15."""
    if (values % 1.0 != 0.0).any():
        return []
    texts = [f"{value:06.0f}" for value in np.unique(values)]
    return [form for form in _SHORT if all(_is_recent(_by_format(text, form)) for text in texts)]


def _is_recent(moment: dt.datetime | None) -> bool:
    return moment is not None and _FIRST_YEAR <= moment.year <= _LAST_YEAR


def _unit(values: Array) -> float | None:
    """How many of their units numbers count a second, as times since 1970; None where they are no such times."""
    within = ((unit, (values >= _EARLIEST * unit) & (values < _LATEST * unit)) for unit in _UNITS)
    return next((unit for unit, inside in within if inside.all()), None)


def _of_digits(values: Array) -> Array:
    """Days of numbers yyyymmdd, NaN where they are none."""
    digits = np.clip(values, 0.0, 1e8).astype(np.int64)
    years, months, days = digits // 10_000, digits // 100 % 100, digits % 100
    month = ((years - 1970) * 12 + months - 1).astype("datetime64[M]")
    date = month.astype("datetime64[D]") + (days - 1)
    right = (digits == values) & (years > 1900) & (years < 2300)
    right &= (months >= 1) & (months <= 12) & (date.astype("datetime64[M]") == month)
    return np.where(right, date.astype(np.int64), np.nan)


def _of_many(texts: pa.Array) -> Array | None:
    """Days of ISO dates and times without offset; None where others are among them."""
    try:
        times = texts.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return None
    return np.array(times.cast(pa.int64()).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)) / 86_400e6


def _of_one(text: str, form: str | None) -> float:
    """Days of a date, NaN where the text is none."""
    moment = _moment(text) if form is None else _by_format(text, form)
    return np.nan if moment is None else instant_of(moment)


def _offset(text: str | None, form: str | None) -> float:
    """Days by which the clock of a time is ahead of UTC, NaN where it does not say it."""
    if form == SERIAL:
        return np.nan
    moment = None if text is None else _moment(text) if form is None else _by_format(text, form)
    ahead = None if moment is None else moment.utcoffset()
    return np.nan if ahead is None else ahead / DAY


def _moment(text: str) -> dt.datetime | None:
    """The date and time of a text in one of the forms in which the order of day, month and year shows."""
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        pass
    match = next((match for form in _FORMS if (match := form.fullmatch(text))), None)
    if match is None:
        return None
    part = match.groupdict()
    month = int(part["month"]) if "month" in part else _month(part["name"])
    hour, minute, second = (int(part[name] or 0) for name in ("hour", "minute", "second"))
    micro = int(1e6 * float(part["fraction"] or 0.0))
    try:
        moment = dt.datetime(int(part["year"]), month, int(part["day"]), hour, minute, second, micro)
        return moment.replace(tzinfo=_zone(part["zone"]))
    except ValueError:  # 31 April
        return None


def _zone(text: str | None) -> dt.timezone | None:
    """The zone of Z, UTC, GMT or an offset such as +0530; None without."""
    if text is None or text[0] not in "+-":
        return None if text is None else dt.UTC
    ahead = dt.timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return dt.timezone(ahead if text[0] == "+" else -ahead)


def _month(name: str) -> int:
    """The number of a month by its name or the first letters of it; 0 where there is none."""
    return next((i + 1 for i, month in enumerate(_MONTHS) if month.startswith(name.lower())), 0)


def _by_format(text: str, form: str) -> dt.datetime | None:
    text = text.zfill(_COMPACT_DIGITS) if form in _COMPACT else text  # 11115 is 01/11/15, not 11/1/15
    try:
        return dt.datetime.strptime(text, form)
    except ValueError:
        return None


def _reason(column: pa.Array, form: str | None, excel: int) -> str:
    """Why cells are no dates, and the formats that read all of them."""
    if form is not None:
        return f"which prepare.quotes.date_format {form!r} does not read"
    texts = pc.unique(column).to_pylist()
    if _are_months(texts):
        return f"which may be months yyyymm, without a day, or dates; write days, or set {_SETTING} {_COMPACT[0]!r}"
    forms = _forms(texts, excel)
    if not forms:
        return f"{_NO_DATE}; {ALLOWED}"
    if forms[0] == SERIAL:
        return f"{_UNCLEAR}: set {_SETTING} {_either(forms)}"
    if len(forms) == 1:
        return f"in a local form; set {_SETTING} {forms[0]!r}, the only order that reads all of them"
    return f"which can be read in several ways; set {_SETTING} {_either(forms)}"


def _forms(texts: list[str], excel: int) -> list[str]:
    """The forms that read all of some texts, of which none shows which it is; none for what may be months."""
    if _are_months(texts):
        return []
    if all(_FIVE_DIGITS.fullmatch(text) for text in texts):
        days = np.array(texts, np.float64)
        short = _short_forms(days)
        return [SERIAL, *short] if short and _are_serial(days, excel) else short
    local = _COMPACT if all(_SIX_DIGITS.fullmatch(text) for text in texts) else _LOCAL
    return [form for form in local if all(_by_format(text, form) for text in texts)]


def _are_months(texts: list[str]) -> bool:
    """Whether all texts may be months yyyymm of contracts, as 201203 is March 2012 or 3 December 2020."""
    return all(_SIX_DIGITS.fullmatch(text) and _is_recent(_by_format(text, "%Y%m")) for text in texts)


def _either(forms: list[str]) -> str:
    return " or ".join(map(repr, forms))


_DATES = (
    *(mark.join(order) for mark in "/.-" for order in (("%d", "%m", "%Y"), ("%m", "%d", "%Y"))),
    *(mark.join(order) for mark in "/.-" for order in (("%d", "%m", "%y"), ("%m", "%d", "%y"), ("%y", "%m", "%d"))),
    *("%d-%b-%y", "%d %b %y", "%d%b%y", "%y-%b-%d"),
)
_COMPACT, _COMPACT_DIGITS = ("%y%m%d", *_SHORT), 6
_LOCAL = tuple(f"{date}{time}" for date, time in product(_DATES, ("", " %H:%M", " %H:%M:%S", " %I:%M %p")))
