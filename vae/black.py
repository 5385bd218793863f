"""Black's formula in normalised form, and its inverse.

Legend: k = ln(K/F) log-moneyness, s = vol sqrt(tenor) total volatility, b the out-of-the-money price
divided by sqrt(F K), which depends on |k| and s alone. Prices elsewhere are per unit of forward, undiscounted.
"""

import math

import torch
from torch import Tensor

_MOST_ITERATIONS = 40
_LAST_STEP = 1e-5  # relative to s; of fourth order, so the error after it is below rounding


def _log_weight(x: Tensor, s: Tensor) -> Tensor:
    """Exponent of the Gaussian factor that b and its derivatives share."""
    return -0.5 * ((x / s).square() + 0.25 * s.square())


def _normalised_price(x: Tensor, s: Tensor) -> Tensor:
    """b(x, s) for x = |k|, without cancellation in the wings.

    Reference: Jäckel (2015), "Let's be rational", equation 2.3 and section 6 (the erfcx form).
    """
    near = torch.special.erfcx((x / s - 0.5 * s) / math.sqrt(2.0))
    far = torch.special.erfcx((x / s + 0.5 * s) / math.sqrt(2.0))
    price: Tensor = 0.5 * torch.exp(_log_weight(x, s)) * (near - far)
    return price


def otm_price(log_moneyness: Tensor, total_vol: Tensor) -> Tensor:
    """Price of the out-of-the-money option per unit of forward: a call where k >= 0, else a put."""
    return _normalised_price(log_moneyness.abs(), total_vol) * torch.exp(0.5 * log_moneyness)


def vega(log_moneyness: Tensor, total_vol: Tensor) -> Tensor:
    """Derivative of the price per unit of forward with respect to the total volatility."""
    weight = _log_weight(log_moneyness.abs(), total_vol)
    return torch.exp(weight + 0.5 * log_moneyness) / math.sqrt(2.0 * math.pi)


def implied_total_vol(log_moneyness: Tensor, price: Tensor) -> Tensor:
    """Total volatility of out-of-the-money prices per unit of forward.

    Householder steps of third order on ln b, kept inside a bracket, so that every price with a solution has one found.
    The first guess is exact at the money and asymptotically exact in the wings.

    Args:
        log_moneyness: k, any shape.
        price: of the call where k >= 0, of the put elsewhere; a shape that broadcasts with k.

    Returns:
        s > 0 in the broadcast shape; NaN where the price is not inside (0, 1) for calls or (0, e^k) for puts.
    """
    k, price = torch.broadcast_tensors(log_moneyness, price)
    x = k.abs()
    b = price * torch.exp(-0.5 * k)
    solvable = (b > 0.0) & (b < torch.exp(-0.5 * x))
    b = torch.where(solvable, b, 0.5 * torch.exp(-0.5 * x))
    log_b = torch.log(b)
    s = torch.hypot(x / torch.sqrt(-2.0 * log_b), 2.0 * math.sqrt(2.0) * torch.erfinv(b))
    low, high = torch.zeros_like(s), torch.full_like(s, torch.inf)
    for _ in range(_MOST_ITERATIONS):
        step, too_low = _householder_step(x, s, log_b)
        low = torch.where(too_low, s, low)
        high = torch.where(too_low, high, s)
        candidate = s + step
        middle = torch.where(torch.isinf(high), 2.0 * s, 0.5 * (low + high))
        following = torch.where((candidate >= low) & (candidate <= high), candidate, middle)
        settled = (following - s).abs() <= _LAST_STEP * s
        s = following
        if settled.all():
            return torch.where(solvable, s, torch.nan)
    return torch.where(solvable & settled, s, torch.nan)


def _householder_step(x: Tensor, s: Tensor, log_b: Tensor) -> tuple[Tensor, Tensor]:
    """Third-order step for f(s) = ln b(s) - ln b, and whether s lies below the root.

    Reference: Householder (1970), "The numerical treatment of a single nonlinear equation", chapter 4.
    """
    model = _normalised_price(x, s)
    slope = torch.exp(_log_weight(x, s)) / math.sqrt(2.0 * math.pi) / model  # f'
    second = x.square() / s.pow(3) - 0.25 * s  # b'' / b'
    third = second.square() - 3.0 * x.square() / s.pow(4) - 0.25  # b''' / b'
    f = torch.log(model) - log_b
    newton = -f / slope
    halley = second - slope  # f'' / f'
    curvature = third - 3.0 * slope * second + 2.0 * slope.square()  # f''' / f'
    step = newton * (1.0 + 0.5 * halley * newton) / (1.0 + newton * (halley + curvature * newton / 6.0))
    return step, f < 0.0
