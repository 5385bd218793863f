"""Risk reversals and butterflies that are in another unit than the at-the-money vols beside them, or are vols.

They are differences of vols, so that their share of the vol at the money shows their unit, whatever it is: a table of
percent has butterflies of 1 to 30 % of it, one of basis points beside percent such of 100 to 3,000 %. The share is that
of the middle row, or of most rows, as single rows may be wrong.
"""

from collections.abc import Mapping

import numpy as np

from pipeline.errors import InputError
from pipeline.settings.quote_layout import FxParams
from pipeline.settings.quotes import QuotesParams
from pipeline.sources.columns import Array, Columns, Index
from vae.surface.plausible import VOL_UNITS, Interval

_USUAL = Interval(0.003, 0.6)  # of the vol at the money
_LARGEST_BUTTERFLY = 0.8  # of the vol at the money; those of a pegged currency reach half of it
_LOWEST_WING = 0.5  # of the vol at the money: the vol of the lower option
_SMALLEST, _MOST = 0.002, 0.9  # of the vol at the money, of this share of the rows
_FEWEST_REVERSALS = 3  # that are small together: a single one may be near zero
_SHOWN = Interval(0.003, 0.3)  # of the vol at the money: sizes that are rare a hundred times larger or smaller
_STRANGLES = Interval(_LARGEST_BUTTERFLY, 2.0)  # vols of strangles, of that at the money


def check_signs(source: Columns, params: QuotesParams, fx: FxParams) -> None:
    """Raise InputError where some parts of a table have percent signs, and others none.

    Args:
        source: the columns of the file.
        params: the settings.
        fx: those of the layout.
    """
    cells = {name: source.texts(name).values for name in (fx.atm, *_differences(fx)) if name in source}
    signed = [name for name, own in cells.items() if any(cell.endswith("%") for cell in own)]
    bare = [name for name, own in cells.items() if own and name not in signed]
    if signed and bare:
        raise InputError(
            f"{params.path}: columns {', '.join(signed)} have percent signs, and {', '.join(bare)} none; write all "
            "parts of the table in one unit, which prepare.quotes.vol_unit says"
        )


def check_sizes(found: Mapping[str, Array], params: QuotesParams, fx: FxParams) -> None:
    """Raise InputError where risk reversals or butterflies are no differences of vols in the unit of the file.

    Args:
        found: the parts as ``iv.PART``, [row].
        params: the settings.
        fx: those of the layout.
    """
    atm = _money(found["iv.atm"])
    for i, wing in enumerate(fx.wings):
        reversal, butterfly = (found[f"iv.{part}_{i}"] / atm for part in ("risk_reversal", "butterfly"))
        share = _shares(butterfly)
        if share.size and (np.median(share) > _LARGEST_BUTTERFLY or np.quantile(share, _MOST) < _SMALLEST):
            _refuse(f"column {wing.butterfly}: butterflies", share, params, strangle=True)
        share, lower = _shares(reversal), 1.0 + butterfly - 0.5 * np.abs(reversal)
        low = np.isfinite(lower).any() and np.nanmedian(lower) < _LOWEST_WING
        if low or (share.size >= _FEWEST_REVERSALS and np.quantile(share, _MOST) < _SMALLEST):
            _refuse(f"column {wing.risk_reversal}: risk reversals", share, params)


def unsure(source: Columns, row: Index, fx: FxParams) -> dict[str, float]:
    """The columns whose unit their sizes do not show, with their median size in vols at the money.

    In a few rows a risk reversal of 0.001 may be near zero or decimal beside percent, and one of 0.5 large or percent
    beside decimals.

    Args:
        source: the columns of the file.
        row: rows of the file that count.
        fx: the settings of the layout.
    """
    atm = _money(source.numbers(fx.atm, percent=True)[row])
    shares = {name: _shares(source.numbers(name, percent=True)[row] / atm) for name in _differences(fx)}
    sizes = {name: float(np.median(share)) for name, share in shares.items() if share.size}
    return {name: size for name, size in sizes.items() if size not in _SHOWN}


def _money(atm: Array) -> Array:
    """Vols at the money, NaN where they are none."""
    return np.where(atm > 0.0, atm, np.nan)


def _differences(fx: FxParams) -> list[str]:
    """The columns of risk reversals and butterflies."""
    return [name for wing in fx.wings for name in (wing.risk_reversal, wing.butterfly)]


def _shares(part: Array) -> Array:
    """The sizes that are known and not 0, which is 0 in any unit."""
    sizes: Array = np.abs(part[np.isfinite(part) & (part != 0.0)])
    return sizes


def _refuse(what: str, share: Array, params: QuotesParams, *, strangle: bool = False) -> None:
    """Raise InputError that names what the numbers may be instead, but where small ones are nothing else."""
    size = float(np.median(share))
    own = VOL_UNITS[params.vol_unit]
    readings = [f"in {name}" for name, unit in VOL_UNITS.items() if unit != own and size * unit / own in _USUAL]
    if strangle and size in _STRANGLES:
        readings.append("vols of strangles, from which the vol at the money is not yet taken")
    if size < _SMALLEST and not readings:
        return
    seem = f", so that they may be {' or '.join(readings)}" if readings else ""
    raise InputError(
        f"{params.path}: {what} are {size:.3g} times the vol at the money{seem}; write all parts of the table as "
        f"differences of vols in {params.vol_unit}, the prepare.quotes.vol_unit"
    )
