"""Log-moneyness of option deltas in the conventions of currency and listed markets.

Legend: s = vol sqrt(tenor) total volatility, D the discount factor of the foreign currency (or of dividends) for spot
deltas and 1 for forward ones, d1 = -k/s + s/2, d2 = d1 - s, phi = 1 for calls and -1 for puts. An option has the delta

    phi D N(phi d1), and premium-adjusted (the premium is paid in the foreign currency) phi D e^k N(phi d2).

Reference: Reiswich, Wystup (2010), "A guide to FX options quoting conventions", J. of Derivatives 18(2).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MOST_STEPS = 60
_ROUNDING = 1e-12  # of the logarithm of a delta
_LOG_ROOT_2_PI = 0.5 * np.log(2.0 * np.pi)


def log_moneyness(
    delta: Array, total_vol: Array, *, call: Mask | bool, discount: Array, premium_adjusted: bool = False
) -> Array:
    """k = ln(K/F) of the option that has a delta.

    A premium-adjusted call reaches most of its deltas at two strikes; the higher one is meant, as everywhere.

    Args:
        delta: without its sign: 0.25 for a put of delta -25 %; all arguments are of shapes that broadcast.
        total_vol: s.
        call: whether the option is a call.
        discount: D: e^(-foreign rate tenor) for spot deltas, 1 for forward deltas.
        premium_adjusted: whether the delta is less the premium.

    Returns:
        k in the broadcast shape; NaN where no strike has the delta, or where delta or total volatility is not positive.
    """
    forward_delta, total_vol, call = np.broadcast_arrays(delta / discount, total_vol, call)
    usable = (forward_delta > 0.0) & (total_vol > 0.0) & np.isfinite(total_vol)
    forward_delta, total_vol = np.where(usable, forward_delta, 0.5), np.where(usable, total_vol, 1.0)
    sign = np.where(call, 1.0, -1.0)
    if premium_adjusted:
        d2 = _premium_adjusted_d2(forward_delta, total_vol, sign)
    else:
        d2 = sign * ndtri(np.where(forward_delta < 1.0, forward_delta, np.nan)) - total_vol
    return np.where(usable, -total_vol * (d2 + 0.5 * total_vol), np.nan)


def _premium_adjusted_d2(delta: Array, total_vol: Array, sign: Array) -> Array:
    """d2 with e^k N(phi d2) = delta by Newton's method, NaN where there is none.

    The logarithm of the delta, -s d2 - s^2/2 + ln N(phi d2), is concave in phi d2: from the low side of the wanted root
    each step stays there and comes nearer, and from the other side the first step leads there.
    """
    target = np.log(delta)
    d2 = sign * ndtri(np.minimum(delta, 0.999)) - total_vol
    for _ in range(_MOST_STEPS):
        log_cdf = log_ndtr(sign * d2)
        slope = np.exp(-0.5 * d2**2 - _LOG_ROOT_2_PI - log_cdf) - sign * total_vol  # with respect to phi d2
        missing = target - (log_cdf - total_vol * (d2 + 0.5 * total_vol))
        if not (np.abs(missing) > _ROUNDING).any():
            break
        d2 = d2 + sign * missing / np.where(slope > 0.0, slope, np.nan)
    return np.where(np.abs(missing) <= _ROUNDING, d2, np.nan)
