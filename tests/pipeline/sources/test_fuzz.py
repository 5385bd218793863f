"""Files of quotes in drawn layouts, units and forms, whole and damaged: read right, or refused in words.

``VOLVAE_FUZZ_EXAMPLES`` is the number of files, see CONTRIBUTING.md.
"""

import csv
import datetime as dt
import gzip
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from pipeline.errors import InputError
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import quotes
from vae.surface.grid import Grid

EXAMPLES = int(os.environ.get("VOLVAE_FUZZ_EXAMPLES", "0"))
DATE = dt.date(2024, 3, 4)
DAYS = {"1W": 7, "2W": 14, "1M": 365 / 12, "3M": 365 / 4, "6M": 182.5, "1Y": 365}
MONEYNESS = np.array([0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15])
LEVELS = {"decimal": 1.0, "percent": 100.0, "bp": 10_000.0}
CLEAR_DATES = ("%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%d-%b-%Y", "%d %b %Y", "%b %d %Y", "s", "ms", "us", "ns")
LOCAL_DATES = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%b-%y")
NOTHING = ("", "-", "--", "None", "n/a", "NaN", "#N/A", "null", " ")
WORDS = ("high", "1.2.3", "12 34", "1e", "+-1", "inf", "0x1F", "\u20ac5", "\u0663")
DAMAGES = ("footer", "title", "cut", "zero byte", "lost cell", "more cells", "blank cells", "word", "names again",
           "foreign byte", "other mark", "percent sign", "doubled", "other separator", "open quote")  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How cells are written."""

    mark: str
    thousands: str
    digits: int
    strike_digits: int
    dates: str
    blanks: str

    def number(self, value: float, digits: int | None = None) -> str:
        text = f"{value:,.{self.digits if digits is None else digits}f}".replace(",", "t").replace(".", self.mark)
        return text.replace("t", self.thousands)

    def day(self, day: dt.date) -> str:
        if "%" in self.dates:
            return day.strftime(self.dates)
        return str((day - dt.date(1970, 1, 1)).days * 86_400 * 1000 ** ("s", "ms", "us", "ns").index(self.dates))


@dataclass(frozen=True)
class Case:
    """A file, the settings that a user writes, and what is right.

    Attributes:
        clear: whether nothing is damaged or left open, so that the file must be read.
    """

    name: str
    content: bytes
    block: dict[str, Any]
    tenors: list[float]
    atm: list[float]
    clear: bool


# The columns of each layout besides date and expiry, as settings.
COLUMNS: dict[str, dict[str, str]] = {
    "vols": {"strike": "strike", "spot": "spot", "iv": "quote"},
    "prices": {"strike": "strike", "forward": "spot", "price": "quote", "type": "type"},
    "call_put": {"strike": "strike", "spot": "spot"},
    "wide": {},
    "fx": {},
}
BLOCKS: dict[str, Any] = {
    "call_put": {"call": {"iv": "C"}, "put": {"iv": "P"}},
    "wide": {"coordinate": "moneyness", "columns": "numbers"},
    "fx": {
        "atm": "ATM",
        "wings": [{"delta": 0.25, "risk_reversal": "25RR", "butterfly": "25BF"}],
        "delta": "forward",
        "premium_adjusted": False,
        "atm_strike": "forward",
        "strangle": "smile",
    },
}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    clear = draw(st.booleans())
    style = draw_style(draw)
    layout = draw(st.sampled_from(list(COLUMNS)))
    clock = draw(st.sampled_from(["days", "tenor", "tenor_years", "expiry"]))
    labels = sorted(draw(st.sets(st.sampled_from(sorted(DAYS)), min_size=2, max_size=3)), key=DAYS.__getitem__)
    days = [round(DAYS[label]) if clock in ("days", "expiry") else DAYS[label] for label in labels]
    spot = draw(st.sampled_from([1.0825, 38.0, 100.0, 420.0, 4700.0, 25_000.0, 151.0]))
    level = draw(st.sampled_from([0.03, 0.06, 0.12, 0.2, 0.35]))
    # Total variance is linear in the tenor, so that an expiry may be lost, and falls far enough to tell tenors apart.
    atm = [level * np.sqrt(1.0 + 73.0 / day) for day in days]
    unit = "decimal" if layout == "prices" else draw(st.sampled_from(list(LEVELS)))
    scale = draw(st.sampled_from([1, 1, 1, 1000])) if "strike" in COLUMNS[layout] else 1

    block: dict[str, Any] = {"columns": {"date": "date", clock: "expiry"} | COLUMNS[layout]}
    block |= {layout: BLOCKS[layout]} if layout in BLOCKS else {}
    said = {"vol_unit": unit, "strike_scale": scale, "decimal_mark": style.mark}
    said |= {"date_format": style.dates} if style.dates in LOCAL_DATES else {}
    damage = None if clear else draw(st.sampled_from([None, None, *DAMAGES]))
    if not clear:  # settings that are left out, and in a whole file perhaps a wrong one
        said = {key: value for key, value in said.items() if draw(st.integers(0, 3))}
    if not clear and damage is None and layout != "prices":
        said["vol_unit"] = draw(st.sampled_from(list(LEVELS)))
    block |= said

    names, rows = table(layout, labels, days, atm, spot, LEVELS[unit], scale, clock, style)
    name, content = stored(draw, names, rows, style, damage)
    digits = 8 if layout == "prices" else style.digits
    return Case(
        name=name,
        content=content,
        block=block,
        tenors=[day / 365 for day in days],
        atm=[float(f"{LEVELS[unit] * one:.{digits}f}") / LEVELS[unit] for one in atm],
        clear=clear,
    )


def stored(
    draw: st.DrawFn, names: list[str], rows: list[list[str]], style: Style, damage: str | None
) -> tuple[str, bytes]:
    """The name and the content of a file, with one thing wrong."""
    text, separator = written(draw, names, rows, style)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    content = damaged(draw, damage, text, separator).encode(encoding, "replace")
    if damage == "foreign byte":
        content += b"\xff\x00"
    if damage == "cut":
        content = content[: draw(st.integers(len(content) // 2, len(content)))]
    name = draw(st.sampled_from(["q.csv", "q.txt", "q.TSV", "q.csv.gz"]))
    return name, gzip.compress(content) if name.endswith("gz") else content


def draw_style(draw: st.DrawFn) -> Style:
    mark = draw(st.sampled_from(".,"))
    thousands = draw(st.sampled_from(["", "", " ", "'", "." if mark == "," else ","]))
    dates = draw(st.sampled_from(CLEAR_DATES + LOCAL_DATES))
    blanks = draw(st.sampled_from(["", "", " "]))
    return Style(mark, thousands, draw(st.integers(2, 6)), draw(st.sampled_from([0, 2, 3, 6])), dates, blanks)


def table(
    layout: str,
    labels: list[str],
    days: list[float],
    atm: list[float],
    spot: float,
    unit: float,
    scale: int,
    clock: str,
    style: Style,
) -> tuple[list[str], list[list[str]]]:
    """The names and cells of a layout; the last column holds no quote."""
    rows = []
    for label, day, level in zip(labels, days, atm, strict=True):
        when = {
            "days": f"{day:g}",
            "tenor": label,
            "tenor_years": style.number(day / 365, 9),
            "expiry": style.day(DATE + dt.timedelta(days=round(day))),
        }[clock]
        start = [style.day(DATE), when]
        strikes = np.round(spot * MONEYNESS, 4)
        k = np.log(strikes / spot)
        vols = level * (1.0 - 0.3 * k + 0.4 * k**2)
        cells = [style.number(unit * vol) for vol in vols]
        if layout == "wide":
            rows.append([*start, *cells, "x"])
        elif layout == "fx":
            rows.append([*start, *(style.number(unit * part) for part in (level, -0.05 * level, 0.02 * level)), "x"])
        for strike, vol, cell in zip(strikes, vols, cells, strict=True):
            digits = 8 if layout == "prices" or spot < 10.0 else style.strike_digits
            place = [style.number(scale * strike, digits), style.number(spot, digits)]
            if layout == "vols":
                rows.append([*start, *place, cell, "x"])
            elif layout == "call_put":
                rows.append([*start, *place, cell, cell, "x"])
            elif layout == "prices":
                quote = style.number(price(strike, spot, vol, day), 8)
                rows.append([*start, *place, quote, "CE" if strike >= spot else "PE", "x"])
    names = {
        "vols": ["Strike", "Spot", "Quote"],
        "call_put": ["Strike", "Spot", "C", "P"],
        "prices": ["Strike", "Spot", "Quote", "Type"],
        "wide": [f"{100 * node:.0f}%" for node in MONEYNESS],
        "fx": ["ATM", "25RR", "25BF"],
    }[layout]
    return ["Date", "Expiry", *names, "Größe"], rows


def price(strike: float, spot: float, vol: float, days: float) -> float:
    """The undiscounted price of the option out of the money."""
    total, sign = vol * np.sqrt(days / 365), 1.0 if strike >= spot else -1.0
    d1 = np.log(spot / strike) / total + 0.5 * total
    return float(sign * (spot * norm.cdf(sign * d1) - strike * norm.cdf(sign * (d1 - total))))


def written(draw: st.DrawFn, names: list[str], rows: list[list[str]], style: Style) -> tuple[str, str]:
    """The text of a file, and its separator."""
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    stream = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer = csv.writer(stream, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerow([f"{style.blanks}{name}" for name in names])
    writer.writerows([[f"{style.blanks}{cell}" for cell in row] for row in rows])
    return stream.getvalue(), separator


def damaged(draw: st.DrawFn, damage: str | None, text: str, separator: str) -> str:
    """The text of a file with one thing wrong."""
    lines = text.splitlines(keepends=True)
    at = draw(st.integers(1, len(lines) - 1))
    line, end = lines[at].rstrip(), lines[at][len(lines[at].rstrip()) :]
    cells = line.split(separator)
    column = draw(st.integers(0, len(cells) - 2))
    added = {
        "footer": (len(lines), f"Total: {len(lines)} rows\n"),
        "title": (0, f"Vols{separator * (len(cells) - 1)}\n"),
        "names again": (at, lines[0]),
        "doubled": (at, lines[at]),
    }
    words = {"blank cells": NOTHING, "word": WORDS, "percent sign": [f"{cells[column]}%"]}
    swapped = str.maketrans({".": ",", ",": "."})
    changed = {
        "zero byte": f"\0{line}",
        "lost cell": separator.join(cells[:-1]),
        "more cells": f"{line}{separator}y",
        "other mark": line if separator == "," else line.translate(swapped),
        "other separator": line.replace(separator, draw(st.sampled_from(";,\t|")), 1),
        "open quote": f'"{line}',
    }
    if damage in added:
        lines.insert(*added[damage])
    elif damage in words:
        cells[column] = draw(st.sampled_from(words[damage]))
        lines[at] = separator.join(cells) + end
    elif damage in changed:
        lines[at] = changed[damage] + end
    return "".join(lines)


@pytest.mark.slow
@settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,  # the suite draws the same files each time
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=cases())
def test_a_file_is_read_right_or_refused(tmp_path: Path, case: Case) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.content)
    params = QuotesParams.model_validate({"path": str(path), "min_points": 1, **case.block})
    grid = Grid(np.round(case.tenors, 9), [-0.01, 0.0, 0.01], "log_moneyness")
    try:
        found = quotes.read(params, grid)
    except InputError as refusal:
        told = str(refusal)
    else:
        told = ""
        for atm in found.iv[:, :, 1]:
            known = np.isfinite(atm)
            assert known.all() or not case.clear
            np.testing.assert_allclose(atm[known], np.array(case.atm)[known], rtol=1e-4 if case.clear else 0.1)
    assert len(told.splitlines()) <= 12
    assert not (case.clear and told), told
