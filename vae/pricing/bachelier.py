"""Bachelier's formula, where the underlying moves by amounts and not by shares, and Black vols of the same price.

Legend: s = normal vol sqrt(tenor), in units of the price; d = |K - F| / s.

References: Bachelier (1900), "Théorie de la spéculation"; Schachermayer, Teichmann (2008), "How close are the option
pricing formulas of Bachelier and Black-Merton-Scholes?", Math. Finance 18(1).
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx

from vae.pricing.implied_vol import implied_total_vol

Array = NDArray[np.float64]

_SQRT_2 = math.sqrt(2.0)
_SQRT_2_PI = math.sqrt(2.0 * math.pi)


def otm_price(forward: Array, strike: Array, total_vol: Array) -> Array:
    """Undiscounted price of the out-of-the-money option: a call where the strike is above the forward, else a put.

    Args:
        forward: of any sign.
        strike: of any sign, in the unit of the forward; all three of shapes that broadcast.
        total_vol: s > 0, in the unit of the forward.
    """
    d = np.abs(strike - forward) / total_vol
    mills = 0.5 * _SQRT_2_PI * erfcx(d / _SQRT_2)  # N(-d) over its density
    price: Array = total_vol / _SQRT_2_PI * np.exp(-0.5 * d**2) * (1.0 - d * mills)
    return price


def black_vols(normal_vol: Array, forward: Array, strike: Array, tenor: Array) -> Array:
    """Black vols of the prices that normal vols give: exact, not by an expansion.

    Args:
        normal_vol: a year, in units of the price, [quote]; 0.0085 is 85 bp where rates are decimal.
        forward: in the same unit, [quote].
        strike: in the same unit, [quote].
        tenor: years, [quote].

    Returns:
        Vols [quote]; NaN where an argument is not positive, as Black's formula has no such strikes and forwards, and
        where no Black vol has the price: a normal vol so large that a call is worth the forward, or so small that the
        price is 0 in double precision.
    """
    usable = (normal_vol > 0.0) & (forward > 0.0) & (strike > 0.0) & (tenor > 0.0)
    normal_vol, forward, strike, tenor = (np.where(usable, x, 1.0) for x in (normal_vol, forward, strike, tenor))
    price = otm_price(forward, strike, normal_vol * np.sqrt(tenor)) / forward
    total_vol = implied_total_vol(np.log(strike / forward), price)
    return np.where(usable, total_vol / np.sqrt(tenor), np.nan)
