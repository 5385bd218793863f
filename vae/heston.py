"""Heston parameters -> characteristic function -> out-of-the-money prices -> implied-volatility surfaces.

Everything is per unit of forward and undiscounted. Legend of the formulas: u the Fourier variable on the
line z = u - i/2, q = u^2 + 1/4, k = ln(K/F), w a total variance, phi the characteristic function of ln(S_T/F).
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vae import black, pairs
from vae.grid import Grid
from vae.pairs import Pair

FLAGS = ("ok", "price too small for its accuracy", "quadrature not converged")
OK, PRICE_TOO_SMALL, NOT_CONVERGED = range(3)

PARAMETERS = ("v0", "kappa", "theta", "vol_of_vol", "rho")

_LOG_TRUNCATION = 38.0  # the integral is cut where the integrand has fallen to e^-38 = 3e-17
_LONGEST_REACH = 40.0
_FEWEST_INTERVALS = 48
_MOST_INTERVALS = 48 * 2**8
_COARSE_GAP = 1e-11  # accepted distance between the rule and the one with half as many intervals
_GAP_TO_ERROR = 1e-4  # error of the rule per unit of that distance: the largest of 20,000 trials was 4e-5
_ROUNDING = 5e-16  # rounding of a price, per unit of sqrt(forward strike)


class Heston(NamedTuple):
    """Parameters of dv = kappa (theta - v) dt + vol_of_vol sqrt(v) dW, each of shape [*batch].

    v0 and theta are variances (1/yr), kappa is in 1/yr, rho is the correlation of price and variance.
    """

    v0: Tensor
    kappa: Tensor
    theta: Tensor
    vol_of_vol: Tensor
    rho: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> "Heston":
        """Parameters from a tensor [*batch, 5] whose last axis is ordered as ``PARAMETERS``."""
        return cls(*parameters.to(torch.float64).unbind(-1))

    def at(self, rows: Tensor) -> "Heston":
        """The models with these indices."""
        return Heston(*(parameter[rows] for parameter in self))


class _Nodes(NamedTuple):
    """Nodes u = scale sinh(t) with t in [0, reach]."""

    scale: float
    reach: float


class Prices(NamedTuple):
    """Out-of-the-money prices per unit of forward and a bound on their error, both [batch, strike]."""

    price: Tensor
    error: Tensor


def log_characteristic_function(model: Heston, tenor: float, u: Tensor) -> Pair:
    """Logarithm of E[exp(i z X)], X = ln(S_T/F), on the line z = u - i/2.

    There z^2 + i z = q = u^2 + 1/4 is real. With beta = kappa - i rho vol_of_vol z and
    d^2 = beta^2 + vol_of_vol^2 q, (beta - d)/vol_of_vol^2 = -q/(beta + d): nothing is divided by a small vol of vol.

    Reference: Albrecher, Mayer, Schoutens, Tistaert (2007), "The little Heston trap" (the branch that never wraps);
    Andersen, Lake (2019), "Robust high-precision option pricing by Fourier transforms".

    Args:
        model: parameters of shape [batch].
        tenor: years.
        u: real nodes of shape [node].

    Returns:
        Real and imaginary part, both [batch, node].
    """
    v0, kappa, theta, xi, rho = (p.unsqueeze(-1) for p in model)
    q = u.square() + 0.25
    beta = Pair(kappa - 0.5 * rho * xi, -rho * xi * u)
    d_squared = Pair(
        beta.re.square() + xi.square() * (0.25 + (1.0 - rho.square()) * u.square()),
        2.0 * beta.re * beta.im,
    )
    d = pairs.sqrt_right_half_plane(d_squared)
    sum_of = Pair(beta.re + d.re, beta.im + d.im)
    drift = pairs.where(
        beta.re >= 0.0,
        Pair(-q * torch.ones_like(d.re), torch.zeros_like(d.im)).over(sum_of),
        Pair(beta.re - d.re, beta.im - d.im).scaled(xi.pow(-2)),
    )
    decay = pairs.expm1(d.scaled(-tenor))
    ratio = Pair(-0.5 * decay.re, -0.5 * decay.im).over(d)  # (1 - e^{-dT}) / 2d
    growth = drift.times(ratio).scaled(xi.square())
    log_growth = pairs.log1p(growth).scaled(2.0 * xi.pow(-2))
    spot_variance = ratio.over(Pair(1.0 + growth.re, growth.im)).scaled(-q)
    return Pair(
        kappa * theta * (drift.re * tenor - log_growth.re) + v0 * spot_variance.re,
        kappa * theta * (drift.im * tenor - log_growth.im) + v0 * spot_variance.im,
    )


def otm_prices(model: Heston, tenor: float, log_moneyness: Tensor) -> Prices:
    """Prices of out-of-the-money options: a call where k >= 0, a put elsewhere.

    The Black price of the control variate, plus the integral of the difference of the two characteristic functions,

        e^{k/2} / pi  int_0^inf  Re[e^{-iuk} (phi_Black - phi_Heston)(u - i/2)] / (u^2 + 1/4) du,

    by the trapezoidal rule in t, u = a sinh(t), halved until it agrees with the rule of twice its step.
    The control variate has the variance that makes the integrand vanish at u = 0. Nothing goes through parity, so a
    small price keeps its digits; the rule converges geometrically, as the integrand is analytic about the real line.

    Reference: Lewis (2001), "A simple option formula for general jump-diffusion and other exponential Lévy processes";
    Andersen, Piterbarg (2010), "Interest rate modeling" I, section 8.4 (control variate);
    Boyarchenko, Levendorskii (2019), arXiv:1808.05295 (sinh acceleration); Trefethen, Weideman (2014), SIAM Rev. 56(3).

    Args:
        model: parameters of shape [batch], float64.
        tenor: years.
        log_moneyness: k, [strike], float64.

    Returns:
        Prices and error bounds, both [batch, strike]. A bound is larger than rounding where the rule did not converge.
    """
    variance = _control_variance(model, tenor)
    price = torch.empty(len(variance), len(log_moneyness), dtype=torch.float64, device=variance.device)
    error = torch.empty_like(price)
    for rows, nodes in _quadrature_classes(model, tenor, variance):
        price[rows], error[rows] = _integrate(model.at(rows), tenor, variance[rows], log_moneyness, nodes)
    total_vol = variance.sqrt().unsqueeze(-1)
    black_price = black.otm_price(log_moneyness, total_vol)
    return Prices(black_price + price, error + _ROUNDING * torch.exp(0.5 * log_moneyness))


def _control_variance(model: Heston, tenor: float) -> Tensor:
    """Total variance w of the control variate: phi_Black = phi_Heston at u = 0, [batch]."""
    origin = torch.zeros(1, dtype=torch.float64, device=model.v0.device)
    return -8.0 * log_characteristic_function(model, tenor, origin).re.squeeze(-1)


def _quadrature_classes(model: Heston, tenor: float, variance: Tensor) -> Iterator[tuple[Tensor, _Nodes]]:
    """Rows that share one set of nodes, which makes the sum over nodes a matrix product.

    Scale and reach are rounded up to a coarse ladder, so the nodes of a row follow from its own parameters alone.
    """
    exponent = torch.ceil(-0.5 * torch.log2(variance)).clamp_min(-1.0)
    for level in exponent.unique().tolist():
        scale = 2.0**level
        rows = torch.nonzero(exponent == level).squeeze(-1)
        reach = 1.0
        while len(rows) and reach < _LONGEST_REACH:
            reach += 1.0
            u = torch.tensor([scale * math.sinh(reach)], dtype=torch.float64, device=variance.device)
            decay = -log_characteristic_function(model.at(rows), tenor, u).re.squeeze(-1)
            black_decay = 0.5 * variance[rows] * (u.square() + 0.25)
            reached = torch.minimum(decay, black_decay) + torch.log(u) > _LOG_TRUNCATION
            if reached.any():
                yield rows[reached], _Nodes(scale, reach)
                rows = rows[~reached]
        if len(rows):
            yield rows, _Nodes(scale, reach)


def _integrate(
    model: Heston, tenor: float, variance: Tensor, log_moneyness: Tensor, nodes: _Nodes
) -> tuple[Tensor, Tensor]:
    """The integral of ``otm_prices``, [batch, strike], and its error, [batch, 1].

    The rows whose rule is not yet accurate get twice as many nodes, again and again.
    """
    intervals = _FEWEST_INTERVALS
    value, coarse = _trapezoid(model, tenor, variance, log_moneyness, nodes, intervals)
    gap = (value - coarse).abs().amax(-1, keepdim=True)
    while intervals < _MOST_INTERVALS:
        rows = torch.nonzero(gap.squeeze(-1) > _COARSE_GAP).squeeze(-1)
        if not len(rows):
            break
        intervals *= 2
        value[rows], coarse = _trapezoid(model.at(rows), tenor, variance[rows], log_moneyness, nodes, intervals)
        gap[rows] = (value[rows] - coarse).abs().amax(-1, keepdim=True)
    return value, torch.where(gap <= _COARSE_GAP, _GAP_TO_ERROR * gap, gap)


def _trapezoid(
    model: Heston, tenor: float, variance: Tensor, log_moneyness: Tensor, nodes: _Nodes, intervals: int
) -> tuple[Tensor, Tensor]:
    """The rule with ``intervals`` and with half as many, both [batch, strike]."""
    step = nodes.reach / intervals
    t = step * torch.arange(intervals + 1, dtype=torch.float64, device=variance.device)
    u = nodes.scale * torch.sinh(t)
    q = u.square() + 0.25
    weight = nodes.scale * torch.cosh(t) * step / q
    weight[0] *= 0.5
    log_phi = log_characteristic_function(model, tenor, u)
    phi = torch.exp(log_phi.re)
    black_phi = torch.exp(-0.5 * variance.unsqueeze(-1) * q)
    difference = torch.cat((black_phi - phi * torch.cos(log_phi.im), -phi * torch.sin(log_phi.im)), dim=-1)
    angle = u.unsqueeze(-1) * log_moneyness
    damping = torch.exp(0.5 * log_moneyness) / math.pi
    waves = torch.cat((torch.cos(angle), torch.sin(angle))) * weight.repeat(2).unsqueeze(-1) * damping
    even = torch.arange(0, intervals + 1, 2, device=u.device)
    even = torch.cat((even, even + intervals + 1))
    return difference @ waves, 2.0 * difference[:, even] @ waves[even]


class Surfaces(NamedTuple):
    """Implied volatilities [batch, tenor, node], NaN where ``flag`` says why they are not known."""

    vol: Tensor
    flag: Tensor


def surfaces(parameters: Tensor, grid: Grid, *, vol_tolerance: float = 1e-6) -> Surfaces:
    """Implied-volatility surfaces of Heston models.

    Args:
        parameters: [batch, 5], the last axis ordered as ``PARAMETERS``.
        grid: tenors and nodes.
        vol_tolerance: largest accepted error of a vol: the error of its price over its vega.

    Returns:
        Vols (decimal) in float64 and, for each point, an index into ``FLAGS``.
    """
    model = Heston.of(parameters)
    log_moneyness = torch.from_numpy(grid.log_moneyness).to(model.v0.device)
    slices = [
        _slice(model, float(tenor), k, vol_tolerance) for tenor, k in zip(grid.tenors, log_moneyness, strict=True)
    ]
    return Surfaces(*(torch.stack(parts, dim=1) for parts in zip(*slices, strict=True)))


def _slice(model: Heston, tenor: float, log_moneyness: Tensor, vol_tolerance: float) -> Surfaces:
    """One tenor of ``surfaces``: vols and flags, both [batch, node]."""
    prices = otm_prices(model, tenor, log_moneyness)
    total_vol = black.implied_total_vol(log_moneyness, prices.price)
    vol_error = prices.error / (black.vega(log_moneyness, total_vol) * math.sqrt(tenor))
    known = vol_error <= vol_tolerance  # False where the inversion found no vol
    reason = torch.where(prices.error > _COARSE_GAP, NOT_CONVERGED, PRICE_TOO_SMALL)
    vol = torch.where(known, total_vol / math.sqrt(tenor), torch.nan)
    return Surfaces(vol, torch.where(known, OK, reason).to(torch.uint8))
