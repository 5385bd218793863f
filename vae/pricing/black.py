"""Black's formula in normalised form, and its inverse.

Legend: k = ln(K/F) log-moneyness, x = |k|, s = vol sqrt(tenor) total volatility, b the out-of-the-money price over
sqrt(F K), which depends on x and s alone. Prices elsewhere are per unit of forward, undiscounted. With
z1, z2 = (x/s -+ s/2) / sqrt(2) and the Gaussian factor exp(-(x^2/s^2 + s^2/4) / 2),

    b = Gaussian factor (erfcx(z1) - erfcx(z2)) / 2.

Reference: Jäckel (2015), "Let's be rational", Wilmott 75, equation 2.3 and section 6 (the erfcx form).
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# (1 + 2 t) erfcx(t - 1) for t >= 0 as a polynomial in y = (t - _PIVOT) / (t + _PIVOT), highest power first, to 4e-16 of
# its value: the Chebyshev series of degree 28, computed with 60 digits. The form is that of Shepherd, Laframboise
# (1981), "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x", Math. Comp. 36(153), moved by 1 to reach below 0.
_PIVOT = 3.75
_ERFCX = (
    5.5109604920725e-09,
    -5.692875112861312e-09,
    -6.696527156862241e-08,
    7.668815405513569e-08,
    4.4833651779201066e-07,
    -6.408933846505633e-07,
    -2.266511252531413e-06,
    4.705978947490185e-06,
    8.994228019645414e-06,
    -3.286807029053813e-05,
    -1.5421395676518707e-05,
    0.00020316855968466972,
    -0.00021443365654195702,
    -0.0008237753912065315,
    0.0030326742748722083,
    -0.002237784680763949,
    -0.013427079818939858,
    0.060706096817692894,
    -0.14746938559033548,
    0.2529295073377311,
    -0.31856866419199703,
    0.2669059133949339,
    -0.04679012204071165,
    -0.3218530737952779,
    0.7396220271892859,
    -1.0696338267822898,
    1.2063750961878847,
    -1.126467950304441,
    1.6461278183720838,
)
_MOST_ITERATIONS = 60
_LAST_STEP = 5e-5  # relative to s; of fourth order, so the error after it is below rounding
_SQRT_2 = math.sqrt(2.0)


class LogPrice(NamedTuple):
    """ln b and its derivative with respect to s."""

    value: Tensor
    slope: Tensor


class RootStep(NamedTuple):
    """The next s, the bracket of the root, and the length of the step over s.

    Where the length is at most ``_LAST_STEP``, the root is reached. It is no boolean, as compiled code takes as long to
    store one as to make the step.
    """

    s: Tensor
    low: Tensor
    high: Tensor
    length: Tensor


def log_price(x: Tensor, s: Tensor) -> LogPrice:
    """ln b and its slope without cancellation: to rounding at the money, at small s and in the wings alike.

    Where z1 >= -1, erfcx(z1) - erfcx(z2) is s / sqrt(2) times a ratio that is built from the divided difference of a
    polynomial, so that close arguments lose nothing, and the Gaussian factor cancels from the slope. Elsewhere b is
    large: exp(-x/2) less the two tails, by erfcx(z1) = 2 exp(z1^2) - erfcx(-z1).

    Args:
        x: |k|, a shape that broadcasts with s.
        s: total volatility > 0.
    """
    return log_price_kernel(x, s, coefficients(s.device), wide=is_wide(s))


def log_price_kernel(x: Tensor, s: Tensor, coefficients: Tensor, *, wide: bool) -> LogPrice:
    """``log_price`` element by element; ``wide`` allows s so large that z1 < -1, at a higher cost."""
    reach, half = x * (1.0 / s), 0.5 * s
    z = (reach - half) / _SQRT_2
    near, far = (z.abs() if wide else z) + 1.0, (reach + half) / _SQRT_2 + 1.0
    if wide:
        near = torch.where(z < -1.0, near, z + 1.0)
    near_pole, far_pole = near + _PIVOT, far + _PIVOT
    inverse = 1.0 / (near_pole * far_pole)  # divisions are most of the cost
    near_y, far_y = (near - _PIVOT) * far_pole * inverse, (far - _PIVOT) * near_pole * inverse
    first, second, *others, last = coefficients.unbind()
    value = torch.addcmul(second, first, near_y)
    difference = torch.addcmul(value, first, far_y)  # of the polynomial at both arguments, over that of the arguments
    for coefficient in others:
        value = torch.addcmul(coefficient, value, near_y)
        difference = torch.addcmul(value, difference, far_y)
    value = torch.addcmul(last, value, near_y)
    near_weight, far_weight = 1.0 + 2.0 * near, 1.0 + 2.0 * far
    ratio = 2.0 * (value - near_weight * difference * (_PIVOT * inverse)) / (near_weight * far_weight)
    scaled = s * ratio
    log_b = torch.log(scaled / (2.0 * _SQRT_2)) - 0.5 * (reach.square() + half.square())
    slope = 2.0 / math.sqrt(math.pi) / scaled
    if not wide:
        return LogPrice(log_b, slope)
    gauss = torch.exp(-z.square())
    tails = value / near_weight + (value + (far_y - near_y) * difference) / far_weight
    share = 0.5 * gauss * tails  # of b's bound exp(-x/2) that is missing from it
    beyond = z < -1.0
    return LogPrice(
        torch.where(beyond, torch.log1p(-share) - 0.5 * x, log_b),
        torch.where(beyond, gauss / (math.sqrt(2.0 * math.pi) * (1.0 - share)), slope),
    )


def otm_price(log_moneyness: Tensor, total_vol: Tensor) -> Tensor:
    """Price of the out-of-the-money option per unit of forward: a call where k >= 0, else a put."""
    return torch.exp(log_price(log_moneyness.abs(), total_vol).value + 0.5 * log_moneyness)


def vega(log_moneyness: Tensor, total_vol: Tensor) -> Tensor:
    """Derivative of the price per unit of forward with respect to the total volatility."""
    weight = 0.5 * ((log_moneyness / total_vol).square() + 0.25 * total_vol.square())
    return torch.exp(0.5 * log_moneyness - weight) / math.sqrt(2.0 * math.pi)


def implied_total_vol(log_moneyness: Tensor, price: Tensor, guess: Tensor | None = None) -> Tensor:
    """Total volatility of out-of-the-money prices per unit of forward.

    Householder steps of third order on ln b, kept inside a bracket, so that every price with a solution has one found.
    The derivatives, forward and backward, are those of the implicit function: 1 / vega, and -dprice/dk / vega.

    Args:
        log_moneyness: k, any shape.
        price: of the call where k >= 0, of the put elsewhere; a shape that broadcasts with k.
        guess: start of the iteration, s > 0, broadcast; the default is exact at the money and in the wings.

    Returns:
        s > 0 in the broadcast shape; NaN where the price is not inside (0, 1) for calls or (0, e^k) for puts.
    """
    k, price = torch.broadcast_tensors(log_moneyness, price)
    total_vol: Tensor = _ImpliedTotalVol.apply(k, price, guess)  # type: ignore[no-untyped-call]
    return total_vol


class _ImpliedTotalVol(torch.autograd.Function):
    """The inverse of ``otm_price`` with the derivatives of the implicit function."""

    @staticmethod
    def forward(k: Tensor, price: Tensor, guess: Tensor | None) -> Tensor:
        solvable = (price > 0.0) & (price < torch.exp(k.clamp_max(0.0)))
        x = k.abs().reshape(-1)
        log_b = torch.where(solvable, torch.log(price) - 0.5 * k, -0.5 * k.abs() - 1.0).reshape(-1)
        s = _first_guess(x, log_b) if guess is None else guess.broadcast_to(k.shape).reshape(-1)
        low, high = torch.zeros_like(s), torch.full_like(s, torch.inf)
        first = advance(x, log_b, s, low, high, coefficients(s.device), wide=is_wide(s))
        return torch.where(solvable, solve(x, log_b, first, advance).reshape(k.shape), torch.nan)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        by_k, by_price = _implicit_derivatives(*ctx.saved_tensors)  # type: ignore[attr-defined]
        return gradient * by_k, gradient * by_price, None

    @staticmethod
    def jvp(ctx: FunctionCtx, k: Tensor | None, price: Tensor | None, _: None) -> Tensor:
        by_k, by_price = _implicit_derivatives(*ctx.saved_tensors)  # type: ignore[attr-defined]
        return by_k * (0.0 if k is None else k) + by_price * (0.0 if price is None else price)


def _implicit_derivatives(k: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Of s with respect to k and to the price of the out-of-the-money option."""
    sign = torch.where(k >= 0.0, 1.0, -1.0)
    d2 = -k / s - 0.5 * s
    by_strike = -sign * torch.exp(k) * torch.special.ndtr(sign * d2)
    by_vol = vega(k, s)
    return -by_strike / by_vol, 1.0 / by_vol


def _first_guess(x: Tensor, log_b: Tensor) -> Tensor:
    """Total volatility, exactly at the money and asymptotically in the wings."""
    return torch.hypot(x / torch.sqrt(-2.0 * log_b), 2.0 * _SQRT_2 * torch.erfinv(torch.exp(log_b)))


def solve(x: Tensor, log_b: Tensor, first: RootStep, advance: Callable[..., RootStep]) -> Tensor:
    """Total volatility with ln b(x, s) = log_b < -x/2, continued from a first step; all of one shape [point].

    Points whose root is reached are left alone, so that a few difficult options do not cost the others another step.
    A point that never reaches it is NaN.

    Args:
        x: |k|.
        log_b: logarithm of the normalised price.
        first: the result of a first step.
        advance: ``black.advance``, plain or compiled.
    """
    s, low, high, length = first
    for _ in range(_MOST_ITERATIONS):
        settled = length <= _LAST_STEP
        count = len(s) - int(settled.count_nonzero())
        if not count:
            return s
        if 2 * count < len(s):
            left = torch.nonzero(~settled).squeeze(-1)
            rest = RootStep(*(part[left] for part in (s, low, high, length)))
            return s.index_copy(0, left, solve(x[left], log_b[left], rest, advance))
        s, low, high, length = advance(x, log_b, s, low, high, coefficients(s.device), wide=is_wide(s))
    return torch.where(length <= _LAST_STEP, s, torch.nan)


def advance(
    x: Tensor, log_b: Tensor, s: Tensor, low: Tensor, high: Tensor, coefficients: Tensor, *, wide: bool
) -> RootStep:
    """The price at s, and the step from there."""
    return householder(x, log_b, s, low, high, log_price_kernel(x, s, coefficients, wide=wide))


def householder(x: Tensor, log_b: Tensor, s: Tensor, low: Tensor, high: Tensor, at_s: LogPrice) -> RootStep:
    """A step of third order for f(s) = ln b(s) - log_b, or half-way through the bracket where it leaves that.

    Reference: Householder (1970), "The numerical treatment of a single nonlinear equation", chapter 4.
    """
    f, slope = at_s.value - log_b, at_s.slope
    inverse = 1.0 / s
    reach = x * inverse
    second = (reach.square() - 0.25 * s.square()) * inverse  # b'' / b'
    third = second.square() - 3.0 * (reach * inverse).square() - 0.25  # the next derivative over b'
    newton = -f / slope
    halley = second - slope  # f'' / f'
    curvature = third - 3.0 * slope * second + 2.0 * slope.square()  # the next derivative of f over f'
    step = newton * (1.0 + 0.5 * halley * newton) / (1.0 + newton * (halley + curvature * newton / 6.0))
    low, high = torch.where(f < 0.0, s, low), torch.where(f < 0.0, high, s)
    following = s + step
    inside = (following >= low) & (following <= high)
    following = torch.where(inside, following, torch.minimum(2.0 * s, 0.5 * (low + high)))
    return RootStep(following, low, high, (following - s).abs() * inverse)


@functools.cache
def coefficients(device: torch.device) -> Tensor:
    """The polynomial of ``log_price_kernel``."""
    return torch.tensor(_ERFCX, dtype=torch.float64, device=device)


def is_wide(s: Tensor) -> bool:
    """Whether some z1 may be below -1; this needs s > 2 sqrt(2) at the money and a larger s elsewhere."""
    return s.numel() > 0 and not bool(s.amax() <= 2.0 * _SQRT_2)  # NaN is wide, so that it hides no other s
