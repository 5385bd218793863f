"""The inverse of Black's formula for arrays, with numpy and scipy alone: files of prices are read without torch.

``black`` has the same with derivatives and on a GPU. Legend and references are those of ``black``.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, erfinv, ndtr

Array = NDArray[np.float64]

_MOST_ITERATIONS = 60
_LAST_STEP = 5e-5  # relative to s; the error after a step of fourth order is then below rounding
_SQRT_2 = math.sqrt(2.0)
_FAR_IN = -1.0  # z1, below which b is large and its plain formula exact


def implied_total_vol(log_moneyness: Array, price: Array) -> Array:
    """Total volatility s of out-of-the-money prices per unit of forward, to 1e-11 of itself where s > 1e-4.

    Householder steps of third order on ln b, kept inside a bracket.

    Args:
        log_moneyness: k, [option].
        price: of the call where k >= 0, of the put elsewhere, [option].

    Returns:
        s [option]; NaN where the price is not inside (0, 1) for calls or (0, e^k) for puts.
    """
    s = np.full(len(price), np.nan)
    left = np.flatnonzero((price > 0.0) & (price < np.exp(np.minimum(log_moneyness, 0.0))))
    x, log_b = np.abs(log_moneyness[left]), np.log(price[left]) - 0.5 * log_moneyness[left]
    total_vol = np.hypot(x / np.sqrt(-2.0 * log_b), 2.0 * _SQRT_2 * erfinv(np.exp(log_b)))
    low, high = np.zeros(len(left)), np.full(len(left), np.inf)
    for _ in range(_MOST_ITERATIONS):
        following, low, high = _householder(x, log_b, total_vol, low, high)
        settled = np.abs(following - total_vol) <= _LAST_STEP * total_vol
        s[left[settled]] = following[settled]
        going = ~settled
        if not going.any():
            break
        left, x, log_b = left[going], x[going], log_b[going]
        total_vol, low, high = following[going], low[going], high[going]
    return s


def _householder(x: Array, log_b: Array, s: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """The next s and its bracket: a step for f(s) = ln b(s) - log_b, or half-way where it leaves the bracket."""
    value, slope = _log_price(x, s)
    f, reach = value - log_b, x / s
    second = (reach**2 - 0.25 * s**2) / s  # b'' / b'
    third = second**2 - 3.0 * (reach / s) ** 2 - 0.25  # the next derivative over b'
    newton, halley = -f / slope, second - slope
    curvature = third - 3.0 * slope * second + 2.0 * slope**2
    step = newton * (1.0 + 0.5 * halley * newton) / (1.0 + newton * (halley + curvature * newton / 6.0))
    low, high = np.where(f < 0.0, s, low), np.where(f < 0.0, high, s)
    inside = (s + step >= low) & (s + step <= high)
    return np.where(inside, s + step, np.minimum(2.0 * s, 0.5 * (low + high))), low, high


def _log_price(x: Array, s: Array) -> tuple[Array, Array]:
    """ln b and its derivative with respect to s."""
    near, far = (x / s - 0.5 * s) / _SQRT_2, (x / s + 0.5 * s) / _SQRT_2
    log_gauss = -0.5 * ((x / s) ** 2 + 0.25 * s**2)
    difference = erfcx(np.maximum(near, _FAR_IN)) - erfcx(far)
    value, slope = np.log(0.5 * difference) + log_gauss, math.sqrt(2.0 / math.pi) / difference
    (far_in,) = np.nonzero(near < _FAR_IN)
    if len(far_in):
        x, near, far, gauss = x[far_in], near[far_in], far[far_in], np.exp(log_gauss[far_in])
        b = np.exp(-0.5 * x) * ndtr(-_SQRT_2 * near) - np.exp(0.5 * x) * ndtr(-_SQRT_2 * far)
        value[far_in], slope[far_in] = np.log(b), gauss / math.sqrt(2.0 * math.pi) / b
    return value, slope
