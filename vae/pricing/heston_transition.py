"""The exact law of one step of a Heston model: of the variance, and of the log return of the forward given both ends.

With fixed parameters an implied-vol surface is a function of the variance alone. So this is the exact law of tomorrow's
surface and return, of which no law of motion can be closer to the truth.

Reference: Broadie, Kaya (2006), "Exact simulation of stochastic volatility and other affine jump diffusion processes",
Operations Research 54(2), section 3: equations 4, 5 and 13.
"""

from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats
from numpy.typing import NDArray

Array = NDArray[np.float64]

_REACH = 10.0  # of frequencies, in units of the inverse of the deviation of a return
_NODES = 48  # frequencies: sums over them have the period 2 pi _NODES / _REACH = 30 deviations
_FAR = 15.0  # deviations within which a return lies
_MOST_STEPS = 60  # of the search for a quantile: bisections alone would end at the last digit
_LEAST = 1e-9  # density of a standardised return by which a step is divided
_SETTLED = 1e-10  # deviations that a step moves, after which the next one would be below the rounding


class Process(NamedTuple):
    """dv = kappa (theta - v) dt + vol_of_vol sqrt(v) dW, rho its correlation with the price; see ``heston.Heston``."""

    kappa: float
    theta: float
    vol_of_vol: float
    rho: float


class ReturnLaw(NamedTuple):
    """Laws of the log return of the forward between known variances, in the frequencies of their Fourier integrals.

    Attributes:
        center, deviation: where most of each law lies, [law].
        frequency: [law, node].
        value: of the characteristic function of the return less ``center``, complex [law, node].
    """

    center: Array
    deviation: Array
    frequency: Array
    value: NDArray[np.complex128]

    def repeated(self, count: int) -> "ReturnLaw":
        """Each law so many times."""
        return ReturnLaw(
            np.repeat(self.center, count),
            np.repeat(self.deviation, count),
            np.repeat(self.frequency, count, axis=0),
            np.repeat(self.value, count, axis=0),
        )

    def density(self, log_return: Array) -> Array:
        """Density of a return of each law, [law]."""
        found = self._spacing / np.pi * self._turned(log_return).real.sum(axis=1)
        return np.where(self._near(log_return), found, 0.0)

    def distribution(self, log_return: Array) -> Array:
        """Probability of at most a return of each law, [law].

        Reference: Gil-Pelaez (1951), "Note on the inversion theorem", Biometrika 38(3-4).
        """
        found = 0.5 - self._spacing / np.pi * (self._turned(log_return).imag / self.frequency).sum(axis=1)
        return np.where(self._near(log_return), found, log_return > self.center)

    def quantile(self, share: Array) -> Array:
        """Return that each law stays below with a probability in (0, 1), [law]: Newton's method inside a bracket."""
        low, high = self.center - _FAR * self.deviation, self.center + _FAR * self.deviation
        found = self.center + self.deviation * scipy.special.ndtri(share)
        for _ in range(_MOST_STEPS):
            excess = self.distribution(found) - share
            low, high = np.where(excess < 0.0, found, low), np.where(excess < 0.0, high, found)
            newton = found - excess / np.maximum(self.density(found), _LEAST / self.deviation)
            following = np.where((newton >= low) & (newton <= high), newton, 0.5 * (low + high))
            moved, found = np.abs(following - found), following
            if (moved <= _SETTLED * self.deviation).all():
                break
        return found

    def _near(self, log_return: Array) -> NDArray[np.bool_]:
        """Whether returns lie within the reach of a law and less than half a period from its center, [law]."""
        return np.asarray(np.abs(log_return - self.center) < _FAR * self.deviation)

    def _turned(self, log_return: Array) -> NDArray[np.complex128]:
        """The integrand of both inversions, [law, node]."""
        turn: NDArray[np.complex128] = np.exp(-1j * self.frequency * (log_return - self.center)[:, None])
        return self.value * turn

    @property
    def _spacing(self) -> Array:
        return self.frequency[:, 1] - self.frequency[:, 0]


def variance_law(process: Process, before: Array, years: float) -> scipy.stats.distributions.rv_frozen:
    """The law of the variance after some years, given the one before: a scaled non-central chi-square (equation 4)."""
    kappa, theta, xi, _ = process
    scale = xi**2 * -np.expm1(-kappa * years) / (4.0 * kappa)
    return scipy.stats.ncx2(4.0 * kappa * theta / xi**2, before * np.exp(-kappa * years) / scale, scale=scale)


def return_law(process: Process, before: Array, after: Array, years: float) -> ReturnLaw:
    """The laws of the log return between variances ``before`` and ``after``, [law] each, some days apart.

    Given the integral I of the variance, the return is normal with mean (rho / xi) (after - before - kappa theta t +
    kappa I) - I / 2 and variance (1 - rho^2) I (equation 5). So its characteristic function is that of I (equation 13,
    with hyperbolic functions) at a complex point.
    """
    kappa, theta, xi, rho = process
    slope, free = kappa * rho / xi - 0.5, 1.0 - rho**2
    mean_integral = 0.5 * (before + after) * years
    known = rho / xi * (after - before - kappa * theta * years)
    center, deviation = known + slope * mean_integral, np.sqrt(free * mean_integral)
    frequency = (np.arange(_NODES) + 0.5) * _REACH / _NODES / deviation[:, None]
    at = slope * frequency + 0.5j * free * frequency**2
    shifted = np.exp(1j * frequency * (known - center)[:, None])
    return ReturnLaw(center, deviation, frequency, shifted * _of_integral(process, before, after, years, at))


def simulated(process: Process, first: float, steps: int, years: float, *, seed: int) -> tuple[Array, Array]:
    """Variances [steps + 1], the first one given, and the log returns of the forward of the steps, [steps]."""
    random = np.random.Generator(np.random.Philox(seed))
    kappa, theta, xi, _ = process
    scale, kept = xi**2 * -np.expm1(-kappa * years) / (4.0 * kappa), np.exp(-kappa * years)
    variance = np.empty(steps + 1)
    variance[0] = first
    for step in range(steps):
        shifted = random.noncentral_chisquare(4.0 * kappa * theta / xi**2, variance[step] * kept / scale)
        variance[step + 1] = scale * shifted
    law = return_law(process, variance[:-1], variance[1:], years)
    return variance, law.quantile(1.0 - random.random(steps))


def _of_integral(
    process: Process, before: Array, after: Array, years: float, at: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """Characteristic function of the integral of the variance between its ends [law], at points [law, node]."""
    kappa, theta, xi, _ = process
    order = 2.0 * kappa * theta / xi**2 - 1.0
    rate = np.sqrt(kappa**2 - 2j * xi**2 * at)
    ends, product = ((before + after) / xi**2)[:, None], (2.0 * np.sqrt(before * after) / xi**2)[:, None]

    def parts(rate: NDArray[np.complex128]) -> tuple[NDArray[np.complex128], ...]:
        inverse = rate / np.sinh(0.5 * rate * years)
        bessel = product * inverse
        log_bessel = np.log(scipy.special.ive(order, bessel)) + np.abs(bessel.real)
        return np.log(inverse), ends * rate / np.tanh(0.5 * rate * years), log_bessel

    above, below = parts(rate), parts(np.full((1, 1), kappa, complex))
    return np.exp(above[0] - below[0] - (above[1] - below[1]) + above[2] - below[2])
