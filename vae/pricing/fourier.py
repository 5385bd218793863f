"""Out-of-the-money option prices of Heston models by Fourier integrals, each with an estimate of its error.

Everything is per unit of forward and undiscounted. Legend of the formulas: u the Fourier variable on the
line z = u - i/2 or a contour through the same point, q = u^2 + 1/4, k = ln(K/F), w a total variance, phi the
characteristic function of ln(S_T/F). A row is one model at one tenor T; y = u sqrt(T) and kappa = k / sqrt(T).
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vae.pricing import black, complex_pairs
from vae.pricing.complex_pairs import Pair
from vae.pricing.heston import Heston, log_characteristic_function

CONVERGED = 1e-11  # a larger error of a price means that the quadrature did not converge
ROUNDING = 1e-15  # rounding of a price, per unit of sqrt(forward strike)

_LOG_TRUNCATION = 38.0  # the integral is cut where the integrand has fallen to e^-38 = 3e-17
_LONGEST_REACH = 40.0  # t at which a contour ends at the latest
_REACH_STEP = 0.5  # the reach is rounded up to a multiple, so that rows share nodes
_FIRST_STEP = 0.12  # of the coarsest rule in t
_HALVINGS = 5  # most refinements of a rule
_BEND = math.pi / 8.0  # widest angle, half-way to where the control variate stops falling
_ACCURATE = 1e-15  # a rule is refined until its error is estimated below this
_GAP_TO_ERROR = 1e5  # in error = factor * gap^2: of 1.2 million options of 40,000 models none has a larger error
_CACHED = 65_536  # points computed at a time: their arrays fit into the cache of a core


class Rows(NamedTuple):
    """Models at tenors; an integrand depends on these numbers alone. Each is [row].

    Attributes:
        model: parameters.
        tenor: years.
        variance: total variance w of the control variate: phi_Black = phi_Heston at u = 0.
    """

    model: Heston
    tenor: Tensor
    variance: Tensor

    @classmethod
    def of(cls, model: Heston, tenor: Tensor) -> "Rows":
        """Each model at its tenor."""
        origin = torch.zeros(1, dtype=torch.float64, device=tenor.device)
        return cls(model, tenor, -8.0 * log_characteristic_function(model, tenor, Pair(origin, origin)).re)

    def at(self, rows: Tensor | slice) -> "Rows":
        """The rows with these indices."""
        return Rows(Heston(*(part[rows] for part in self.model)), self.tenor[rows], self.variance[rows])


class Contour(NamedTuple):
    """The contour y = scale (sinh(t + i bend) - i sin(bend)), t in [0, reach]; with bend 0 it is the real line."""

    scale: float
    reach: float
    bend: float

    def nodes(self, t: Tensor) -> Pair:
        """y at t."""
        return _nodes(t, self.scale, math.sin(self.bend), math.cos(self.bend))

    def slopes(self, t: Tensor) -> Pair:
        """dy/dt at t."""
        sine, cosine = math.sin(self.bend), math.cos(self.bend)
        return Pair(self.scale * cosine * torch.cosh(t), self.scale * sine * torch.sinh(t))


def _nodes(t: Tensor, scale: Tensor | float, sine: Tensor | float, cosine: Tensor | float) -> Pair:
    """scale (sinh(t + i bend) - i sin(bend))."""
    return Pair(scale * cosine * torch.sinh(t), scale * sine * (torch.cosh(t) - 1.0))


class Prices(NamedTuple):
    """Out-of-the-money prices per unit of forward and estimates of their errors, both [row, strike]."""

    price: Tensor
    error: Tensor


Integrand = Callable[[Rows, Tensor], Tensor]


def straight_integrand(rows: Rows, y: Tensor) -> Tensor:
    """(phi_Black - phi_Heston) / q at real nodes y [node]: real parts above imaginary parts, [2 node, row]."""
    u = y.unsqueeze(-1) / rows.tenor.sqrt()
    log_phi = log_characteristic_function(rows.model, rows.tenor, Pair(u, torch.zeros_like(u[:1, :1])))
    q = u.square() + 0.25
    weight = 1.0 / q
    phi = torch.exp(log_phi.re) * weight
    control = torch.exp(-0.5 * rows.variance * q) * weight
    return torch.cat((control - phi * torch.cos(log_phi.im), -phi * torch.sin(log_phi.im)))


def bent_integrand(rows: Rows, y: Pair) -> Tensor:
    """The integrand of ``straight_integrand`` at complex nodes y [node]."""
    root = rows.tenor.sqrt()
    u = Pair(y.re.unsqueeze(-1) / root, y.im.unsqueeze(-1) / root)
    square = u.times(u)
    q = Pair(square.re + 0.25, square.im)
    heston = complex_pairs.exp(log_characteristic_function(rows.model, rows.tenor, u))
    control = complex_pairs.exp(q.scaled(-0.5 * rows.variance))
    return torch.cat(Pair(control.re - heston.re, control.im - heston.im).over(q))


def fall(rows: Rows, scale: Tensor, t: Tensor, bend: Tensor) -> Tensor:
    """-ln of the integrand's size at t, [row]; at least 1, so that its logarithm exists."""
    y = _nodes(t, scale / rows.tenor.sqrt(), torch.sin(bend), torch.cos(bend))
    heston = -log_characteristic_function(rows.model, rows.tenor, y).re
    control = 0.5 * rows.variance * (y.times(y).re + 0.25)
    return (torch.minimum(heston, control) + torch.log(y.re)).clamp_min(1.0)


class Kernels(NamedTuple):
    """The functions that work element by element on the real line, plain or compiled."""

    integrand: Integrand
    fall: Callable[[Rows, Tensor, Tensor, Tensor], Tensor]


EAGER = Kernels(straight_integrand, fall)


def otm_prices(model: Heston, tenor: float | Tensor, log_moneyness: Tensor) -> Prices:
    """Prices of out-of-the-money options: a call where k >= 0, a put elsewhere.

    The Black price of the control variate, plus the integral of the difference of the two characteristic functions,

        e^{k/2} / pi  int_0^inf  Re[e^{-iuk} (phi_Black - phi_Heston)(u - i/2)] / (u^2 + 1/4) du,

    by the trapezoidal rule in t, u = a sinh(t), its step halved until the error is below rounding. Where the real line
    does not converge (far strikes of models whose characteristic function falls slowly), the contour is bent to the
    side on which e^{-iuk} falls. The control variate has the variance that makes the integrand vanish at u = 0. Nothing
    goes through parity, so a small price keeps its digits; the rule converges geometrically, as the integrand is
    analytic about the contour.

    Reference: Lewis (2001), "A simple option formula for general jump-diffusion and other exponential Lévy processes";
    Andersen, Piterbarg (2010), "Interest rate modeling" I, section 8.4 (control variate);
    Boyarchenko, Levendorskii (2019), arXiv:1808.05295 (sinh acceleration); Trefethen, Weideman (2014), SIAM Rev. 56(3).

    Args:
        model: parameters of shape [row], float64.
        tenor: years, one for all or [row].
        log_moneyness: k, [strike] or [row, strike], float64.

    Returns:
        Prices and estimates of their errors, both [row, strike]. One is larger than rounding where the rule did not
        converge; it is infinite, and the price NaN, where the integrand does not fall.
    """
    years = torch.as_tensor(tenor, dtype=torch.float64, device=model.v0.device)
    rows = Rows.of(model, years.broadcast_to(model.v0.shape))
    return prices(rows, log_moneyness / (years.sqrt().unsqueeze(-1) if years.ndim else years.sqrt()))


def prices(rows: Rows, strikes: Tensor) -> Prices:
    """Prices at scaled strikes kappa, [strike] for all rows or [row, strike]."""
    integral, error = integrate(rows, strikes, EAGER)
    k = strikes * rows.tenor.sqrt().unsqueeze(-1)
    damping = torch.exp(0.5 * k)
    control = black.otm_price(k, rows.variance.sqrt().unsqueeze(-1))
    return Prices(control + damping * integral, damping * (error + ROUNDING))


def integrate(rows: Rows, strikes: Tensor, kernels: Kernels) -> tuple[Tensor, Tensor]:
    """The integral of ``otm_prices`` over pi for scaled strikes kappa [strike] or [row, strike], and its error.

    Both are [row, strike], in units of sqrt(forward strike).
    """
    value, error = _along_contours(rows, strikes, 0, kernels)
    error = error.unsqueeze(-1).expand_as(value).clone()
    stuck = torch.nonzero(~(error[:, 0] <= CONVERGED)).squeeze(-1)
    if len(stuck):
        hard, far = rows.at(stuck), strikes.expand_as(value)[stuck]
        for side, kept in ((-1, far.clamp_min(0.0)), (1, far.clamp_max(0.0))):
            bent, bent_error = _along_contours(hard, kept, side, kernels)
            better = (bent_error.unsqueeze(-1) < error[stuck]) & (kept == far)
            value[stuck] = torch.where(better, bent, value[stuck])
            error[stuck] = torch.where(better, bent_error.unsqueeze(-1), error[stuck])
    return value, error


def _along_contours(rows: Rows, strikes: Tensor, side: int, kernels: Kernels) -> tuple[Tensor, Tensor]:
    """The integral along the real line or contours bent to one side, [row, strike], and its error, [row]."""
    value = torch.full((len(rows.tenor), strikes.shape[-1]), torch.nan, dtype=torch.float64, device=rows.tenor.device)
    error = torch.full_like(rows.tenor, torch.inf)
    for members, contour in _contours(rows, strikes.abs().amax(-1), side, kernels):
        some = strikes if strikes.ndim == 1 else strikes[members]
        value[members], error[members] = _refined(rows.at(members), some, contour, kernels.integrand)
    return value, error


def _contours(rows: Rows, farthest: Tensor, side: int, kernels: Kernels) -> Iterator[tuple[Tensor, Contour]]:
    """Rows that share one contour, which makes the sum over nodes a matrix product.

    Scale and reach are rounded to a coarse ladder, so that rows can share nodes while the nodes of a row follow from
    its own parameters alone. The scale is twice the width of the integrand, which takes the fewest nodes. It also lets
    the first step resolve the wave of the farthest scaled strike; without that, the distance of two rules says nothing
    about their error. A row whose integrand does not fall before the longest reach belongs to no contour.

    Args:
        rows: models at tenors.
        farthest: the largest scaled strike, one for all or [row].
        side: 0 for the real line, -1 or 1 for contours bent below or above it.
        kernels: plain or compiled.
    """
    rows = Rows(Heston(*(part.detach() for part in rows.model)), rows.tenor, rows.variance.detach())
    width = torch.ceil(1.0 - 0.5 * torch.log2(rows.variance / rows.tenor))
    level = torch.minimum(width, torch.floor(-torch.log2(farthest * _FIRST_STEP)))
    bend = _bend(rows.model.rho, side)
    step = torch.ceil(_reach(rows, torch.exp2(level), bend, kernels) / _REACH_STEP)
    falls = step * _REACH_STEP <= _LONGEST_REACH
    for angle in bend[falls].unique().tolist():
        for exponent in level[falls & (bend == angle)].unique().tolist():
            alike = falls & (bend == angle) & (level == exponent)
            for steps in step[alike].unique().tolist():
                members = torch.nonzero(alike & (step == steps)).squeeze(-1)
                yield members, Contour(2.0**exponent, steps * _REACH_STEP, angle)


def _bend(rho: Tensor, side: int) -> Tensor:
    """Angle of the contour, [row]: at most half-way to where Heston's characteristic function stops falling.

    Far out it falls like exp(-c (sqrt(1 - rho^2) + i rho) u), c > 0, which is along e^{i angle} while
    side rho tan|angle| < sqrt(1 - rho^2).
    """
    if side == 0:
        return torch.zeros_like(rho)
    widest = 0.5 * torch.acos((side * rho).clamp(0.0, 1.0))
    halvings = torch.ceil(torch.log2(_BEND / widest)).clamp_min(0.0)
    return side * _BEND * torch.exp2(-halvings)


def _reach(rows: Rows, scale: Tensor, bend: Tensor, kernels: Kernels) -> Tensor:
    """t at which the integrand has fallen to its truncation, [row]; infinite where it does not.

    The logarithm of the size falls with a power of u between 1 and 2; the iteration assumes 1.5. Where it ends too
    early, t grows by steps.
    """
    t = torch.full_like(scale, 3.0)
    for _ in range(5):
        t = (t + torch.log(_LOG_TRUNCATION / kernels.fall(rows, scale, t, bend)) / 1.5).clamp(1.0, _LONGEST_REACH)
    short = torch.nonzero(kernels.fall(rows, scale, t, bend) < _LOG_TRUNCATION - 1.0).squeeze(-1)
    while len(short):
        t[short] += _REACH_STEP
        t[short[t[short] > _LONGEST_REACH]] = torch.inf
        short = short[t[short] <= _LONGEST_REACH]
        short = short[fall(rows.at(short), scale[short], t[short], bend[short]) < _LOG_TRUNCATION - 1.0]
    return t


def _refined(rows: Rows, strikes: Tensor, contour: Contour, integrand: Integrand) -> tuple[Tensor, Tensor]:
    """The integral along a contour, [row, strike], and its error, [row].

    The step h of the rule is halved until the error is small. The relative error falls like e^{-c/h}, so that half the
    step squares it. The distance of two rules therefore gives the error of the finer one.
    """
    intervals = math.ceil(contour.reach / _FIRST_STEP)
    step = contour.reach / intervals
    index = torch.arange(intervals + 1, dtype=torch.float64, device=rows.tenor.device)
    coarse = step * _sum(rows, strikes, contour, step * index, integrand)
    value = 0.5 * (coarse + step * _sum(rows, strikes, contour, step * (index[:-1] + 0.5), integrand))
    error = _refined_error(value, coarse)
    for _ in range(_HALVINGS):
        left = torch.nonzero(~(error <= _ACCURATE)).squeeze(-1)
        if not len(left):
            break
        intervals, step = 2 * intervals, 0.5 * step
        index = torch.arange(intervals, dtype=torch.float64, device=rows.tenor.device) + 0.5
        coarse, some = value[left], strikes if strikes.ndim == 1 else strikes[left]
        finer = 0.5 * (coarse + step * _sum(rows.at(left), some, contour, step * index, integrand))
        value[left], error[left] = finer, _refined_error(finer, coarse)
    return value, error


def _refined_error(value: Tensor, coarse: Tensor) -> Tensor:
    """Error of a rule from its distance to the rule of twice its step, [row]."""
    gap = (value - coarse).detach().abs().amax(-1)
    squared = _GAP_TO_ERROR * gap.square() / value.detach().abs().amax(-1)
    return torch.where(squared <= _ACCURATE, squared, gap)


def _sum(rows: Rows, strikes: Tensor, contour: Contour, t: Tensor, integrand: Integrand) -> Tensor:
    """Sum of the integrand at the nodes t over pi, [row, strike]; the node at 0 counts half."""
    y, slope = contour.nodes(t), contour.slopes(t).scaled(torch.where(t > 0.0, 1.0, 0.5))
    shared = _waves(strikes, y, slope) if strikes.ndim == 1 else None
    parts = []
    for chunk in chunks(rows, len(t)):
        some = rows.at(chunk)
        f = integrand(some, y.re) if contour.bend == 0.0 else bent_integrand(some, y)
        if shared is None:
            parts.append((f.T.unsqueeze(-2) @ _waves(strikes[chunk], y, slope)).squeeze(-2))
        else:
            parts.append((shared.T @ f).T)  # most libraries are slower if f is the one to transpose
    return torch.cat(parts) / (math.pi * rows.tenor.sqrt().unsqueeze(-1))  # du = dy / sqrt(T)


def chunks(rows: Rows, points: int) -> Iterator[slice]:
    """Slices of rows, of ``points`` points each, whose arrays fit into the cache of a core."""
    length = len(rows.tenor) if rows.tenor.is_cuda else max(1, _CACHED // points)
    return (slice(first, first + length) for first in range(0, len(rows.tenor), length))


def _waves(strikes: Tensor, y: Pair, slope: Pair) -> Tensor:
    """e^{-iy kappa} y': real parts above negated imaginary parts, [*, 2 node, strike]."""
    angle = y.re.unsqueeze(-1) * strikes.unsqueeze(-2)
    size = torch.exp(y.im.unsqueeze(-1) * strikes.unsqueeze(-2))
    wave = Pair(size * torch.cos(angle), -size * torch.sin(angle))
    wave = wave.times(Pair(slope.re.unsqueeze(-1), slope.im.unsqueeze(-1)))
    return torch.cat((wave.re, -wave.im), dim=-2)
