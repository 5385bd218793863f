"""Charts as SVG in HTML: they need no script, follow the colours of the page and print as sharp as text.

A chart is 440 units wide, as a phone is in pixels, so that its text has the size of the page's.
"""

import html
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae.surface.days import date_of

Array = NDArray[np.float64]

_WIDTH, _HEIGHT = 440.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 66.0, 12.0, 10.0, 44.0
_HALF_A_DIGIT = 3.8  # of its width
_DECADES = 2.2  # up to so many, a logarithmic axis has ticks at 1, 2 and 5, beyond at powers of ten
_DAY_STEPS = (1, 2, 5, 10, 20, 40)  # days between two dates that an axis names ...
_MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 2400, 6000, 24_000)  # ... or months
_PALETTE = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # viridis, from low to high
_TILT, _TURN = 0.5, -0.6  # of the view of a surface: sine of its height, radians about the vertical


class Axis(NamedTuple):
    """An axis.

    Attributes:
        title: what it shows, and in which unit.
        log: whether it is logarithmic, which the chart then says.
        dates: whether its numbers are days since 1970-01-01, which are named as dates.
        ticks: numbers to name; chosen by the data where there are none.
        style: format of these numbers.
        holds: numbers that it reaches to, whatever the data.
    """

    title: str
    log: bool = False
    dates: bool = False
    ticks: tuple[float, ...] = ()
    style: str = ",.6g"
    holds: tuple[float, ...] = ()


class Mark(NamedTuple):
    """The marks of one name of the legend: a line, points or a band.

    Attributes:
        x, y: of the points, [point].
        name: in the legend; one without a name is not there.
        colour: a class of the style sheet: own, rival, quiet-mark, dark or wrong.
        shape: ``line``, ``dots`` or both, ``dashes``; ``band`` from ``low`` to ``high``; ``bars`` from low to high.
        low, high: of bands and bars, [point].
        notes: of the points, which a browser shows under the pointer.
    """

    x: ArrayLike
    y: ArrayLike
    name: str = ""
    colour: str = "own"
    shape: str = "line"
    low: ArrayLike = ()
    high: ArrayLike = ()
    notes: Sequence[str] = ()


class Level(NamedTuple):
    """A number that the others are measured by: a line across the chart with its name."""

    y: float
    name: str


class _Scale(NamedTuple):
    """The way from numbers between ``low`` and ``high`` to places between ``start`` and ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, values: ArrayLike) -> Array:
        numbers, low, high = np.asarray(values, np.float64), self.low, self.high
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                numbers, low, high = np.log(numbers), math.log(low), math.log(high)
        return np.asarray(self.start + (numbers - low) / (high - low) * (self.end - self.start))


def chart(
    marks: Sequence[Mark], x: Axis, y: Axis, *, levels: Sequence[Level] = (), label: str, height: float = _HEIGHT
) -> str:
    """A chart with its legend.

    Args:
        marks: drawn in this order.
        x: horizontal axis.
        y: vertical axis.
        levels: anchors of the vertical axis.
        label: what it shows, for those who do not see it.
        height: of the picture.
    """
    across, up = _scales(marks, x, y, levels, height)
    parts = [_axes(across, up, x, y)]
    for level in levels:
        place = _place(up, level.y)
        parts.append(f'<path class="level" d="M{_LEFT:g} {place}H{_WIDTH - _RIGHT:g}"/>')
        parts.append(
            f'<text class="level" x="{_WIDTH - _RIGHT - 4:g}" y="{place - 5:g}" text-anchor="end">'
            f"{html.escape(level.name)}</text>"
        )
    parts += [_mark(mark, across, up) for mark in marks]
    return f"{_legend(marks)}{_svg(''.join(parts), label, height)}"


def heat_map(x: ArrayLike, y: ArrayLike, z: Array, axes: tuple[Axis, Axis], *, unit: str, label: str) -> str:
    """Numbers z [y, x] on a grid, from none (clear) to the largest (full colour), each at its place of equal size."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    rows, columns = z.shape
    width, height = (_WIDTH - _LEFT - _RIGHT) / columns, (_HEIGHT - _TOP - _BOTTOM) / rows
    largest = max(float(np.nanmax(z)), np.finfo(float).tiny)
    cells = "".join(
        f'<rect x="{_LEFT + j * width:.2f}" y="{_HEIGHT - _BOTTOM - (i + 1) * height:.2f}" width="{width:.2f}" '
        f'height="{height:.2f}" fill-opacity="{z[i, j] / largest:.2f}"><title>{z[i, j]:.3g} {unit} at '
        f"{x[j]:.3g}, {y[i]:.3g}</title></rect>"
        for i in range(rows)
        for j in range(columns)
    )
    middles = (
        (_LEFT + (np.arange(columns) + 0.5) * width, x, axes[0]),
        (_HEIGHT - _BOTTOM - (np.arange(rows) + 0.5) * height, y, axes[1]),
    )
    ticks = "".join(
        _tick(place, f"{value:{axis.style}}", _HEIGHT - _BOTTOM, horizontal=n == 0)
        for n, (places, values, axis) in enumerate(middles)
        for place, value in list(zip(places, values, strict=True))[:: max(1, -(-len(values) // 7))]
    )
    legend = f'<p class="legend"><span class="own">{largest:.3g} {unit}, the largest; clear is 0</span></p>'
    return f'{legend}{_svg(f"""<g class="cells">{cells}</g>{ticks}{_titles(*axes, _HEIGHT - _BOTTOM)}""", label)}'


def surface(x: ArrayLike, y: ArrayLike, z: Array, *, ends: tuple[str, str], unit: str, label: str) -> str:
    """A surface z [y, x] in perspective of its grid, coloured from low to high.

    Args:
        x: of the columns.
        y: of the rows.
        z: heights.
        ends: name and ends of the columns, which run to the front, and of the rows, which run to the back.
        unit: of z.
        label: what it shows.
    """
    x, y = (_unit(np.asarray(axis, np.float64)) for axis in (x, y))
    height = _unit(z)
    columns, rows = np.meshgrid(x - 0.5, y - 0.5)
    turned = columns * math.cos(_TURN) - rows * math.sin(_TURN)
    depth = columns * math.sin(_TURN) + rows * math.cos(_TURN)
    across, up = 190.0 + 250.0 * turned, 165.0 - 230.0 * _TILT * depth - 130.0 * (height - 0.5)
    faces = []
    for i, j in sorted(np.ndindex(len(y) - 1, len(x) - 1), key=lambda face: -depth[face]):
        corners = ((i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j))
        path = " ".join(f"{across[at]:.0f},{up[at]:.0f}" for at in corners)
        faces.append(f'<polygon points="{path}" fill="{_colour(float(np.mean([height[at] for at in corners])))}"/>')
    texts = (
        f'<text x="4" y="14">{z.min():.3g} to {z.max():.3g} {unit}</text>'
        f'<text x="4" y="312">{html.escape(ends[0])} ↘</text>'
        f'<text x="376" y="312" text-anchor="end">{html.escape(ends[1])} ↗</text>'
    )
    return (
        f'<svg class="chart" viewBox="0 0 380 320" role="img" aria-label="{html.escape(label)}">'
        f'<g class="faces">{"".join(faces)}</g>{texts}</svg>'
    )


def ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Some five round numbers from ``low`` to ``high``.

    >>> ticks(0.0, 9.0, log=False)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    >>> ticks(0.7, 42.0, log=True)
    [1.0, 2.0, 5.0, 10.0, 20.0]
    >>> ticks(1e-3, 1e3, log=True)
    [0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
    """
    if log:
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 2, 5) if math.log10(high / low) < _DECADES else (1,)
        found = [float(f"{step}e{exponent}") for exponent in exponents for step in steps]
        return [tick for tick in found if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
    rough = (high - low) / 5.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((1.0, 2.0, 2.5, 5.0, 10.0), key=lambda size: abs(size * power - rough)) * power
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def date_ticks(low: float, high: float) -> dict[float, str]:
    """Up to six months, or four days, from ``low`` to ``high``, all days since 1970-01-01, and their names.

    >>> date_ticks(20454.0, 20819.0)
    {20454.0: '2026-01', 20544.0: '2026-04', 20635.0: '2026-07', 20727.0: '2026-10', 20819.0: '2027-01'}
    >>> date_ticks(20454.0, 20460.0)
    {20454.0: '2026-01-01', 20456.0: '2026-01-03', 20458.0: '2026-01-05', 20460.0: '2026-01-07'}
    """
    if high - low < 4.0 * _DAY_STEPS[-1]:
        step = next(step for step in _DAY_STEPS if 4.0 * step > high - low)
        return {float(day): str(date_of(day)) for day in range(math.ceil(low), math.floor(high) + 1, step)}
    step = next(step for step in _MONTH_STEPS if 5.0 * step >= _month_of(high - low))
    counted = np.arange(_month_of(low) // step * step, _month_of(high) + 1.0, step).astype("datetime64[M]")
    firsts = zip(counted.astype("datetime64[D]").astype(float).tolist(), counted.astype(str).tolist(), strict=True)
    return {day: month for day, month in firsts if low <= day <= high}


def _month_of(day: float) -> float:
    """Mean months since 1970-01-01."""
    return day * 12.0 / 365.25


def _scales(marks: Sequence[Mark], x: Axis, y: Axis, levels: Sequence[Level], height: float) -> tuple[_Scale, _Scale]:
    """The scales of both axes, which hold all marks and levels."""
    heights = [value for mark in marks for part in (mark.y, mark.low, mark.high) for value in np.ravel(part)]
    return (
        _Scale(*_limits([value for mark in marks for value in np.ravel(mark.x)], x), _LEFT, _WIDTH - _RIGHT, x.log),
        _Scale(*_limits([*heights, *(level.y for level in levels)], y), height - _BOTTOM, _TOP, y.log),
    )


def _limits(values: Iterable[float], axis: Axis) -> tuple[float, float]:
    """Ends of an axis that holds all known values, with some room."""
    known = np.array(
        [value for value in (*values, *axis.holds) if math.isfinite(value) and (value > 0.0 or not axis.log)]
    )
    if not len(known):
        return (1.0, 10.0) if axis.log else (0.0, 1.0)
    low, high = float(known.min()), float(known.max())
    if axis.log:
        room = max((high / low) ** 0.04, 1.05)
        return low / room, high * room
    room = 0.04 * (high - low) or max(0.04 * abs(high), 1e-9)
    return low - room, high + room


def _place(scale: _Scale, value: float) -> float:
    return round(float(scale(value)), 1)


def _axes(across: _Scale, up: _Scale, x: Axis, y: Axis) -> str:
    """Grid lines, numbers and titles."""
    parts, bottom = [], up.start
    for scale, axis, horizontal in ((across, x, True), (up, y, False)):
        for value, name in _named(axis, scale).items():
            place = _place(scale, value)
            line = f"M{place} {_TOP:g}V{bottom:g}" if horizontal else f"M{_LEFT:g} {place}H{_WIDTH - _RIGHT:g}"
            parts.append(f'<path class="grid" d="{line}"/>{_tick(place, name, bottom, horizontal=horizontal)}')
    return "".join(parts) + _titles(x, y, bottom)


def _named(axis: Axis, scale: _Scale) -> dict[float, str]:
    """The numbers that an axis names, and how."""
    if axis.dates:
        return date_ticks(scale.low, scale.high)
    return {value: f"{value:{axis.style}}" for value in axis.ticks or ticks(scale.low, scale.high, log=axis.log)}


def _tick(place: float, text: str, bottom: float, *, horizontal: bool) -> str:
    if horizontal:
        inside = min(place, _WIDTH - _HALF_A_DIGIT * len(text))
        return f'<text x="{inside:.1f}" y="{bottom + 16:g}" text-anchor="middle">{text}</text>'
    return f'<text x="{_LEFT - 6:g}" y="{place + 4:.1f}" text-anchor="end">{text}</text>'


def _titles(x: Axis, y: Axis, bottom: float) -> str:
    across, up = 0.5 * (_LEFT + _WIDTH - _RIGHT), 0.5 * (bottom + _TOP)
    end = 'text-anchor="middle"'
    return (
        f'<text class="title" x="{across:g}" y="{bottom + _BOTTOM - 8:g}" {end}>{_titled(x)}</text>'
        f'<text class="title" transform="rotate(-90)" x="{-up:g}" y="13" {end}>{_titled(y)}</text>'
    )


def _titled(axis: Axis) -> str:
    return html.escape(f"{axis.title} (logarithmic)" if axis.log else axis.title)


def _mark(mark: Mark, across: _Scale, up: _Scale) -> str:
    """The shapes of one mark; points that are not known are left out."""
    x, y = across(mark.x), up(mark.y)
    if mark.shape == "band":
        low, high = up(mark.low), up(mark.high)
        return f'<path class="{mark.colour} band" d="{_path(np.r_[x, x[::-1]], np.r_[low, high[::-1]])}Z"/>'
    if mark.shape == "bars":
        ends = zip(x, up(mark.low), up(mark.high), strict=True)
        return "".join(f'<path class="{mark.colour}" d="M{a:.1f} {b:.1f}V{c:.1f}"/>' for a, b, c in ends)
    parts = []
    if "line" in mark.shape or mark.shape == "dashes":
        kind = f"{mark.colour} dashes" if mark.shape == "dashes" else mark.colour
        parts.append(f'<path class="{kind}" d="{_path(x, y)}"/>')
    if "dots" in mark.shape:
        notes = mark.notes or [f"{a:.4g}: {b:.4g}" for a, b in zip(np.ravel(mark.x), np.ravel(mark.y), strict=True)]
        parts += [
            f'<circle class="{mark.colour}" cx="{a:.1f}" cy="{b:.1f}" r="3.5"><title>{html.escape(note)}</title>'
            "</circle>"
            for a, b, note in zip(x, y, notes, strict=True)
            if np.isfinite([a, b]).all()
        ]
    return "".join(parts)


def _path(x: Array, y: Array) -> str:
    points = [f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True) if np.isfinite([a, b]).all()]
    return f"M{'L'.join(points)}" if points else "M0 0"


def _legend(marks: Iterable[Mark]) -> str:
    names = dict.fromkeys((mark.name, f"{mark.colour} {mark.shape}") for mark in marks if mark.name)
    items = "".join(f'<span class="{kind}">{html.escape(name)}</span>' for name, kind in names)
    return f'<p class="legend">{items}</p>' if items else ""


def _svg(content: str, label: str, height: float = _HEIGHT) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH:g} {height:g}" role="img" aria-label="{html.escape(label)}">'
        f"{content}</svg>"
    )


def _unit(values: Array) -> Array:
    """Values from 0 to 1."""
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread else np.full_like(values, 0.5)


def _colour(share: float) -> str:
    """The colour of a height from 0 to 1."""
    place = share * (len(_PALETTE) - 1)
    n = min(int(place), len(_PALETTE) - 2)
    mixed = (round(a + (place - n) * (b - a)) for a, b in zip(_PALETTE[n], _PALETTE[n + 1], strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)
