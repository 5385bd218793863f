"""Tables of at-the-money vols, risk reversals and butterflies, turned into vols by log-moneyness."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.settings.quote_layout import FxParams
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import fx_units
from pipeline.sources.columns import Array, Index
from vae.pricing import fx_smile
from vae.pricing.fx_smile import Conventions, DeltaKind
from vae.surface.plausible import VOL_UNITS

_YEAR = 1.0 + 1e-9  # tenors are rounded


def parts(fx: FxParams) -> dict[str, str]:
    """The columns of the table, each by its part."""
    found = {"atm": fx.atm}
    for i, wing in enumerate(fx.wings):
        found |= {f"risk_reversal_{i}": wing.risk_reversal, f"butterfly_{i}": wing.butterfly}
    return found


def long(
    found: Mapping[str, Array], tenor: Array, params: QuotesParams, fx: FxParams
) -> tuple[dict[str, Array], Index]:
    """Log-moneyness and vol of each option of a table, and its row.

    Args:
        found: the parts as ``iv.PART``, and rates, forward and spot where the file has them, [row].
        tenor: years, [row].
        params: the settings.
        fx: those of the layout.

    Returns:
        Columns by canonical name, vols in the unit of the file, [quote]; what is not quoted is left out, and NaN stands
        for what no strike satisfies. Then the row of each, [quote].

    Raises:
        InputError: the parts are of several units.
    """
    fx_units.check_sizes(found, params, fx)
    unit = VOL_UNITS[params.vol_unit]
    atm = unit * found["iv.atm"]
    reversals, butterflies = (
        unit * np.stack([found[f"iv.{part}_{i}"] for i in range(len(fx.wings))], axis=1)
        for part in ("risk_reversal", "butterfly")
    )
    deltas = np.array([wing.delta for wing in fx.wings])
    wings = np.isfinite(reversals + butterflies)[:, np.argsort(deltas)]
    quoted = np.isfinite(atm)[:, None] & np.concatenate((wings, np.ones((len(atm), 1), bool), wings[:, ::-1]), axis=1)
    rate, foreign_rate = (found.get(name, getattr(params, name)) for name in ("rate", "dividend_yield"))
    spot_moneyness = np.exp((foreign_rate - rate) * tenor)
    if "forward" in found and "spot" in found:
        spot_moneyness = found["spot"] / found["forward"]
    k, vol = np.full((2, *quoted.shape), np.nan)
    kinds: tuple[DeltaKind, DeltaKind] = ("forward", "spot")
    for delta in kinds:
        own = np.flatnonzero(_has(delta, fx, tenor) & (tenor > 0.0))
        smiles = fx_smile.smiles(
            atm[own],
            reversals[own],
            butterflies[own],
            deltas,
            tenor[own],
            Conventions(delta=delta, premium_adjusted=fx.premium_adjusted, atm=fx.atm_strike, strangle=fx.strangle),
            foreign_discount=np.exp(-foreign_rate * tenor)[own],
            spot_moneyness=spot_moneyness[own],
        )
        k[own], vol[own] = smiles
    row, option = np.nonzero(quoted)
    return {"log_moneyness": k[row, option], "iv": vol[row, option] / unit}, row


def _has(delta: str, fx: FxParams, tenor: Array) -> NDArray[np.bool_]:
    """The rows whose deltas are of a kind, [row]."""
    if fx.delta == "spot_to_1y":
        own: NDArray[np.bool_] = (tenor <= _YEAR) == (delta == "spot")
        return own
    return np.full(len(tenor), delta == fx.delta)
