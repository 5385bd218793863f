"""A Gaussian mixture and its fit by EM, in numpy: the prior that ships may be one, fitted to codes; N(0, I) is one too.

Codes are draws from the encoder's posteriors of the data. The ELBO is hardly lower under a prior that does not match
them, but samples are worse: they are drawn from the prior. A joint mixture of conditions and latents also gives the
distribution of the latents given any of the conditions.

Reference: Dempster, Laird, Rubin (1977), "Maximum likelihood from incomplete data via the EM algorithm"; of priors
fitted after training Dai, Wipf (2019), arXiv:1903.05789; Ghosh, Sajjadi, Vergari, Black, Schölkopf (2020),
arXiv:1903.12436.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LEAST_VARIANCE = 1e-6  # of a component in any direction; the rows are whitened first
_MOST_ITERATIONS = 200
_SETTLED = 2e-5  # nats a row: EM stops where an iteration gains less
_ROWS = 16_384  # rows at a time: bounds the memory


class TooFewRowsError(ValueError):
    """There are fewer rows than the mixture has free parameters."""


class Mixture(NamedTuple):
    """Gaussians with weights [component], means [component, d] and lower factors [component, d, d].

    A factor L makes the covariance L L'.
    """

    weights: Array
    means: Array
    factors: Array

    @classmethod
    def standard_normal(cls, dimension: int) -> Self:
        """N(0, I)."""
        return cls(np.ones(1), np.zeros((1, dimension)), np.eye(dimension)[None])

    @classmethod
    def from_table(cls, table: Array) -> Self:
        """The mixture whose ``table()`` this is.

        Raises:
            ValueError: the array is not the table of a mixture.
        """
        dimension = round((math.sqrt(4 * table.shape[1] - 3) - 1) / 2) if table.ndim == 2 and table.shape[1] else 0
        if dimension < 1 or table.shape[1] != 1 + dimension + dimension**2 or not np.isfinite(table).all():
            raise ValueError(f"an array of shape {table.shape} is not a mixture")
        weights, means, factors = np.split(table, [1, 1 + dimension], axis=1)
        if not ((weights >= 0.0).all() and math.isclose(weights.sum(), 1.0, rel_tol=1e-6)):
            raise ValueError("the weights of a mixture must add up to 1")
        return cls(weights[:, 0], means, factors.reshape(-1, dimension, dimension))

    @property
    def dimension(self) -> int:
        """Dimension of the points."""
        return int(self.means.shape[1])

    def table(self) -> Array:
        """Weight, mean and factor of each component in a row, [component, 1 + d + d^2]."""
        return np.concatenate([self.weights[:, None], self.means, self.factors.reshape(len(self.weights), -1)], axis=1)

    def log_density(self, z: Array) -> Array:
        """log p(z) in nats, [*batch], of z [*batch, d]."""
        rows, coefficients = z.reshape(-1, self.dimension), self._coefficients()
        parts = [_log_sum(_features(part) @ coefficients.T) for part in _parts(rows)]
        density: Array = np.concatenate(parts).reshape(z.shape[:-1])
        return density

    def sample(self, uniform: Array, normal: Array) -> Array:
        """Draws [batch, d] made from uniform numbers on [0, 1), [batch], and numbers of N(0, I), [batch, d]."""
        component = _choose(np.broadcast_to(self.weights.cumsum(), (1, len(self.weights))), uniform)
        draws: Array = self.means[component] + np.einsum("bij,bj->bi", self.factors[component], normal)
        return draws

    def sample_given(self, known: Array, uniform: Array, normal: Array) -> Array:
        """Draws [batch, d - c] of the last coordinates given the first ones, known [batch, c].

        The random numbers are uniform on [0, 1), [batch], and of N(0, I), [batch, d - c].
        """
        count = known.shape[1]
        first = Mixture(self.weights, self.means[:, :count], self.factors[:, :count, :count])
        joint = _features(known) @ first._coefficients().T
        component = _choose(np.exp(joint - _log_sum(joint)[:, None]).cumsum(1), uniform)
        steps = np.linalg.solve(first.factors[component], (known - first.means[component])[..., None])[..., 0]
        moved = np.concatenate([steps, normal], axis=1)
        draws: Array = self.means[component, count:] + np.einsum("bij,bj->bi", self.factors[component, count:], moved)
        return draws

    def moments(self) -> tuple[Array, Array]:
        """Mean [d] and covariance [d, d] of the whole mixture."""
        mean = self.weights @ self.means
        apart = self.means - mean
        within = self.factors @ self.factors.transpose(0, 2, 1)
        covariance: Array = np.einsum("k,kij->ij", self.weights, within + apart[:, :, None] * apart[:, None, :])
        return mean, covariance

    def part(self, chosen: NDArray[np.bool_]) -> "Mixture":
        """The mixture of some components alone, chosen by a mask [component]."""
        weights = self.weights[chosen]
        return Mixture(weights / weights.sum(), self.means[chosen], self.factors[chosen])

    @classmethod
    def joined(cls, parts: Sequence["Mixture"], shares: Array) -> Self:
        """The mixture of mixtures that have these shares, [part], which add up to 1."""
        weights = [share * part.weights for share, part in zip(shares, parts, strict=True)]
        means, factors = ([getattr(part, name) for part in parts] for name in ("means", "factors"))
        return cls(np.concatenate(weights), np.concatenate(means), np.concatenate(factors))

    def select(self, order: Sequence[int]) -> "Mixture":
        """The marginal distribution of some coordinates, in this order."""
        chosen = np.array(order, dtype=np.int64)
        upper = np.linalg.qr(self.factors[:, chosen].transpose(0, 2, 1)).R  # of Q R = L', so that L L' = R'R
        signs = np.sign(np.diagonal(upper, axis1=1, axis2=2))
        return Mixture(self.weights, self.means[:, chosen], (signs[:, :, None] * upper).transpose(0, 2, 1))

    def scaled(self, shift: Array, unit: Array) -> "Mixture":
        """The distribution of shift + unit z, both [d]."""
        return Mixture(self.weights, shift + unit * self.means, unit[:, None] * self.factors)

    def _coefficients(self) -> Array:
        """Each component's weighted log density as a linear function of ``_features``, [component, feature]."""
        inverse = np.linalg.inv(self.factors)
        precision = inverse.transpose(0, 2, 1) @ inverse
        slope = np.einsum("kij,kj->ki", precision, self.means)
        with np.errstate(divide="ignore"):  # a component of weight 0 has log density -inf
            constant = np.log(self.weights) - 0.5 * (slope * self.means).sum(1)
        constant -= 0.5 * self.dimension * math.log(2.0 * math.pi)
        constant -= np.log(np.abs(np.diagonal(self.factors, axis1=1, axis2=2))).sum(1)
        return np.concatenate([constant[:, None], slope, -0.5 * precision.reshape(len(slope), -1)], axis=1)


def fewest_rows(components: int, dimension: int) -> int:
    """Smallest number of rows for a fit: the number of free parameters of the mixture."""
    return components * (1 + dimension + dimension * (dimension + 1) // 2)


def fit_mixture(z: Array, components: int, *, seed: int, weights: Array | None = None) -> Mixture:
    """Maximum likelihood by EM for rows z [n, d].

    The rows are whitened. The means start at random rows, each covariance at that of all rows scaled down to one
    component's share of the volume.

    Args:
        z: the rows.
        components: number of Gaussians.
        seed: of the random rows.
        weights: of the rows, [n], in any unit; all count alike by default.

    Raises:
        TooFewRowsError: there are fewer rows than free parameters.
    """
    dimension = z.shape[1]
    needed = fewest_rows(components, dimension)
    if len(z) < needed:
        raise TooFewRowsError(f"{components} components of {dimension} latents need {needed} surfaces, not {len(z)}")
    share = np.full(len(z), 1.0 / len(z)) if weights is None else weights / weights.sum()
    shift = share @ z
    unit = np.sqrt(share @ np.square(z - shift)) + np.finfo(np.float64).tiny
    whitened = (z - shift) / unit
    chosen = np.random.default_rng(seed).choice(len(z), components, replace=False)
    spread = (share * whitened.T) @ whitened / components ** (2.0 / dimension)
    start = _factor(np.broadcast_to(spread, (components, dimension, dimension)))
    mixture = Mixture(np.full(components, 1.0 / components), whitened[chosen], start)
    before = -math.inf
    for _ in range(_MOST_ITERATIONS):
        mixture, value = _improved(mixture, whitened, share)
        if value - before <= _SETTLED:
            break
        before = value
    return mixture.scaled(shift, unit)


def _improved(mixture: Mixture, z: Array, share: Array) -> tuple[Mixture, float]:
    """The mixture after one iteration of EM, and the mean log density before it, of rows z [n, d] with shares [n].

    The sums of the features under each component's responsibilities are its weight, mean and second moment.
    """
    coefficients, dimension = mixture._coefficients(), mixture.dimension  # noqa: SLF001 - of this module's own class
    sums, value = np.zeros_like(coefficients), 0.0
    for part, weight in zip(_parts(z), _parts(share), strict=True):
        features = _features(part)
        joint = features @ coefficients.T
        density = _log_sum(joint)
        sums += (np.exp(joint - density[:, None]) * weight[:, None]).T @ features
        value += float(weight @ density)
    counts, first, second = np.split(sums, [1, 1 + dimension], axis=1)
    counts = np.maximum(counts, 1e-15)
    means = first / counts
    covariance = (second / counts).reshape(-1, dimension, dimension) - means[:, :, None] * means[:, None, :]
    return Mixture(counts[:, 0] / counts.sum(), means, _factor(covariance)), value


def _features(z: Array) -> Array:
    """1, z and z z' of each row, [batch, 1 + d + d^2]: a Gaussian's log density is linear in them."""
    products = (z[:, :, None] * z[:, None, :]).reshape(len(z), -1)
    return np.concatenate([np.ones((len(z), 1)), z, products], axis=1)


def _factor(covariance: Array) -> Array:
    """Lower factors of covariances, whose variances in every direction are raised to the least one."""
    variances, vectors = np.linalg.eigh(0.5 * (covariance + covariance.transpose(0, 2, 1)))
    whole = (vectors * np.maximum(variances, _LEAST_VARIANCE)[:, None, :]) @ vectors.transpose(0, 2, 1)
    return np.linalg.cholesky(whole)


def _log_sum(values: Array) -> Array:
    """log of the sum of exp over the last axis."""
    largest = values.max(axis=1, keepdims=True)
    total: Array = np.log(np.exp(values - largest).sum(axis=1)) + largest[:, 0]
    return total


def _choose(cumulative: Array, uniform: Array) -> NDArray[np.int64]:
    """Component of each row by inversion of the cumulative weights, [batch or 1, component]."""
    component: NDArray[np.int64] = np.minimum((uniform[:, None] >= cumulative).sum(axis=1), cumulative.shape[1] - 1)
    return component


def _parts(rows: Array) -> list[Array]:
    return [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)] or [rows]
