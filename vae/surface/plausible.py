"""Limits of vols, tenors and coordinates of quotes, so that a wrong unit is refused instead of read.

Each rule is stated once here, for numbers in the units of this package (decimal vols, years, k = ln(K/F)). It looks at
a median, so that single bad quotes do not decide the unit of a file.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae.surface.units import DAYS_PER_YEAR

VOL_UNITS = {"decimal": 1.0, "percent": 1e-2, "bp": 1e-4}  # one of the unit, as a decimal vol
LONGEST_TENOR = 50.0  # years: no option is traded that is longer
LARGEST_K = 1.5  # |ln(K/F)| of the median quote: e^1.5 is 4.5 times the forward
FARTHEST_K = 5.0  # |ln(K/F)| of any quote: e^5 is 150 times the forward

_MONEYNESS = (0.3, 3.0)  # quotes that all lie here are K/F, as no k of them is near the money
_FEWEST = 5  # quotes, from which on a smile without any near the money is told apart from a few far ones
_STRIKE_SCALES = (100.0, 1000.0)


class Interval(NamedTuple):
    """An interval of decimal vols."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, float) and self.low <= value <= self.high

    @property
    def each(self) -> "Interval":
        """The interval of single vols beside such a median."""
        return Interval(0.1 * self.low, 5.0 * self.high)

    @property
    def largest(self) -> float:
        """The largest vol of a surface whose odd points are to be found.

        It is beyond ``each``, as an odd point, such as one in percent, is scored. What is larger is no vol, and what
        models make of it leaves single precision.
        """
        return 25.0 * self.high


MEDIAN_VOL = Interval(0.01, 2.0)
EACH_VOL = MEDIAN_VOL.each
_FACTOR = 5.0  # by which a market may be calmer or wilder than the middle surface of its model


def around(median: float) -> Interval:
    """The interval of medians for a model whose middle surface has this one: its market may be calmer or wilder.

    >>> around(0.2) == MEDIAN_VOL
    True
    >>> around(0.005).low
    0.001
    """
    return Interval(min(MEDIAN_VOL.low, median / _FACTOR), max(MEDIAN_VOL.high, median * _FACTOR))


def limits(allowed: Interval = MEDIAN_VOL) -> dict[str, object]:
    """The numbers of the rules by name, for programs in other languages that must refuse the same quotes.

    Args:
        allowed: what the median vol may be.
    """
    return {
        "median_vol": list(allowed),
        "each_vol": list(allowed.each),
        "vol_units": dict(VOL_UNITS),
        "longest_tenor": LONGEST_TENOR,
        "largest_k": LARGEST_K,
        "moneyness": list(_MONEYNESS),
        "fewest": _FEWEST,
    }


def vol_readings(median: float, allowed: Interval = MEDIAN_VOL) -> dict[str, float]:
    """The units in which a median vol is plausible, with the decimal vol that it then is.

    >>> vol_readings(24.0)
    {'percent': 0.24}
    >>> vol_readings(150.0)
    {'percent': 1.5, 'bp': 0.015}
    """
    values = {unit: float(f"{size * median:.6g}") for unit, size in VOL_UNITS.items()}
    return {unit: value for unit, value in values.items() if value in allowed}


def check_vols(vols: ArrayLike, allowed: Interval = MEDIAN_VOL) -> None:
    """Refuse vols that cannot be decimal Black vols; NaN is a vol that is not known.

    Args:
        vols: any shape.
        allowed: what their median may be.

    Raises:
        ValueError: the median is not allowed, or a vol is ten times smaller or five times larger than that may be.

    >>> check_vols([21.0, 24.0])
    Traceback (most recent call last):
    ValueError: the median vol 22.5 is 2250 %, but must be within 1 % and 200 %; in percent it would be 22.5 %: divide \
by 100
    """
    values = np.asarray(vols, np.float64)
    known = _known(values)
    if not len(known):
        return
    median = float(np.median(known))
    _check_median(median, allowed)
    each = allowed.each
    wrong = (values < each.low) | (values > each.high)
    if wrong.any():
        place = ", ".join(map(str, np.argwhere(wrong)[0]))
        raise ValueError(
            f"the vol {values[wrong][0]:g} at index {place} is no quote beside a median of {median:g}: allowed are "
            f"{_percent(each)}; leave it out"
        )


def check_surfaces(vols: NDArray[np.floating], allowed: Interval = MEDIAN_VOL) -> None:
    """Refuse surfaces [surface, tenor, node] that cannot be decimal Black vols; NaN is not known.

    Args:
        vols: of the surfaces.
        allowed: what the median of each may be.

    Raises:
        ValueError: the median of a surface is not allowed, or a vol is far larger than any market has.
    """
    lowest, highest = np.fmin.reduce(vols, (1, 2)), np.fmax.reduce(vols, (1, 2))
    doubtful = (lowest < allowed.low) | (highest > allowed.high)  # all vols of others are between these
    for row in np.flatnonzero(doubtful):
        try:
            _check_median(float(np.nanmedian(vols[row])), allowed)
            _check_largest(vols[row], allowed.largest)
        except ValueError as error:
            raise ValueError(f"surface {row}: {error}") from error


def check_tenors(tenors: ArrayLike) -> None:
    """Refuse tenors that cannot be years.

    Raises:
        ValueError: one is longer than 50 years.
    """
    known = _known(tenors)
    longest = float(known.max(initial=0.0))
    if longest > LONGEST_TENOR:
        raise ValueError(
            f"the tenor {longest:g} is more than {LONGEST_TENOR:g} years; in days it would be "
            f"{longest / DAYS_PER_YEAR:.3g} years: divide by {DAYS_PER_YEAR:g}"
        )


def check_log_moneyness(k: ArrayLike) -> None:
    """Refuse coordinates that cannot be k = ln(K/F).

    Raises:
        ValueError: the median is further from the money than a factor of 4.5, half of them are, as in percent, or all
            are K/F instead of its logarithm.
    """
    known = _known(k)
    if not len(known):
        return
    median = float(np.median(known))
    if abs(median) > LARGEST_K:
        raise ValueError(
            f"the median of ln(K/F) is {median:.3g}, but must be within -{LARGEST_K} and {LARGEST_K}: strike and "
            f"forward are in different units{_scale(median)}"
        )
    spread = float(np.median(np.abs(known)))
    if spread > LARGEST_K:
        raise ValueError(
            f"the median of |ln(K/F)| is {spread:.3g}, but must be at most {LARGEST_K}; in percent it would be "
            f"{0.01 * spread:.3g}: divide by 100"
        )
    if len(known) >= _FEWEST and known.min() > _MONEYNESS[0] and known.max() < _MONEYNESS[1]:
        raise ValueError(
            f"log-moneyness from {known.min():.3g} to {known.max():.3g} has no quote near the money, which is 0: it "
            "looks like K/F; take its logarithm"
        )


def check_call_deltas(delta: ArrayLike) -> None:
    """Refuse coordinates that cannot be call deltas N(d1).

    Raises:
        ValueError: one is not inside (0, 1).
    """
    known = _known(delta)
    wrong = (known <= 0.0) | (known >= 1.0)
    if wrong.any():
        worst = float(known[wrong][0])
        if 1.0 < worst < 100.0:
            remedy = "; deltas in percent: divide by 100"
        else:
            remedy = "; a put of delta -0.25 has the call delta 0.75" if -1.0 < worst < 0.0 else ""
        raise ValueError(f"the call delta {worst:g} is not inside (0, 1){remedy}")


def strike_scale(median_k: float) -> float | None:
    """The number by which all strikes seem to be multiplied, from the median of ln(K/F); None where there is none.

    >>> strike_scale(6.9)
    1000.0
    """
    return next((scale for scale in _STRIKE_SCALES if abs(median_k - np.log(scale)) < 1.0), None)


def _check_median(median: float, allowed: Interval) -> None:
    """Raise ValueError unless this can be the median of decimal vols."""
    if median not in allowed:
        outside = f"the median vol {median:g} is {100.0 * median:g} %, but must be within {_percent(allowed)}"
        raise ValueError(outside + _units(median))


def _check_largest(vols: NDArray[np.floating], largest: float) -> None:
    """Raise ValueError unless all known vols of a surface [tenor, node] are at most so large."""
    wrong = vols > largest
    if wrong.any():
        tenor, node = np.argwhere(wrong)[0]
        raise ValueError(
            f"the vol {vols[tenor, node]:g} at tenor {tenor}, node {node}, counted from 0, is none; at most "
            f"{100.0 * largest:g} % is allowed: correct it, or leave it out"
        )


def _known(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    return array[np.isfinite(array)]


def _percent(allowed: Interval) -> str:
    return f"{100.0 * allowed.low:g} % and {100.0 * allowed.high:g} %"


def _units(median: float) -> str:
    """The median in each other unit that is plausible, with the step to decimal vols, as text."""
    readings = [
        f"in {unit} it would be {100.0 * vol:g} %: divide by {1.0 / VOL_UNITS[unit]:g}"
        for unit, vol in vol_readings(median).items()
    ]
    return "".join(f"; {reading}" for reading in readings)


def _scale(median_k: float) -> str:
    scale = strike_scale(median_k)
    return "" if scale is None else f"; strikes times {scale:g} would show this"
