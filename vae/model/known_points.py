"""Gaussians of rows with missing points, by EM.

A missing point is taken for its conditional mean, and its conditional variance is added to the covariance. Without that
variance the covariance would be too small wherever points are missing.

Reference: Dempster, Laird, Rubin (1977), "Maximum likelihood from incomplete data via the EM algorithm", JRSS B 39(1);
Tipping, Bishop (1999), "Probabilistic principal component analysis", JRSS B 61(3); Schneider (2001), "Analysis of
incomplete climate data", Journal of Climate 14(5) (EM with a ridge).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vae.model.linear import PrincipalComponents, as_is, components_of_covariance, components_of_parts
from vae.model.rows import ROWS, empty_columns, has_missing

_MOST_STEPS = 200
_SETTLED = 1e-5  # change of the mean log density of a row at convergence, in nats a point
_ENTRIES = 1 << 20  # of the matrices of the rows that are worked on at a time

Variances = Callable[[PrincipalComponents], Tensor]


class _Expected(NamedTuple):
    """Moments and densities of rows under a law.

    Attributes:
        distance: conditional mean of the rows less the law's mean, [batch, D].
        spread: weighted sum of the conditional covariances, [D, D].
        density: log density of the points that are not NaN, in nats, [batch].
    """

    distance: Tensor
    spread: Tensor
    density: Tensor


def components_by_em(
    parts: Sequence[Tensor],
    variances: Variances,
    weights: Tensor | None = None,
    inner: Callable[[Tensor], Tensor] = as_is,
    start: PrincipalComponents | None = None,
) -> PrincipalComponents:
    """Components of the covariance that rows in parts [n, D] are expected to have, given their points that are not NaN.

    Those of the sample, where no point is missing.

    Args:
        parts: of the rows.
        variances: of the law along the components of that covariance, [D]: as they are for the maximum of the
            likelihood among all Gaussians, with equal last ones among those of pPCA.
        weights: of all rows, [row]; they count alike by default.
        inner: applied to the rows first.
        start: components to begin with; by default those of rows whose missing points are means.

    Raises:
        ValueError: a column has no known point.
    """
    if not any(map(has_missing, parts)):
        return components_of_parts(parts, weights, inner)
    rows = torch.cat([inner(part).double() for part in parts])
    empty = empty_columns(rows)
    if empty.any():
        raise ValueError(f"column {int(empty.nonzero()[0]) + 1} of {rows.shape[1]} has no known point")
    weights = torch.ones(len(rows), dtype=rows.dtype, device=rows.device) if weights is None else weights.double()
    shares = weights / weights.sum()
    if start is None:
        start = components_of_parts([torch.where(rows.isnan(), rows.nanmean(0), rows)], shares)
    found, before = start, -math.inf
    for _ in range(_MOST_STEPS):
        following, density = _step(rows, shares, found, variances(found))
        if abs(density - before) <= _SETTLED * rows.shape[1]:
            break
        found, before = following, density
    return found


def _step(
    rows: Tensor, shares: Tensor, found: PrincipalComponents, variances: Tensor
) -> tuple[PrincipalComponents, float]:
    """The components after a step of EM, and the mean log density before it."""
    shift, covariance, density = torch.zeros_like(found.mean), torch.zeros_like(found.vectors), 0.0
    for block, share in zip(rows.split(ROWS), shares.split(ROWS), strict=True):
        expected = _expected(block - found.mean, share, found.vectors, variances)
        shift += share @ expected.distance
        covariance += (expected.distance.T * share) @ expected.distance + expected.spread
        density += float(share @ expected.density)
    return components_of_covariance(found.mean + shift, covariance - torch.outer(shift, shift)), density


def _expected(x: Tensor, shares: Tensor, vectors: Tensor, variances: Tensor) -> _Expected:
    """Moments and densities of rows x [batch, D] with NaN under a Gaussian of mean 0, vectors [D, D], variances [D].

    Hidden points have the precision of the law, so that a row costs the cube of their number.

    Reference: Bishop (2006), "Pattern Recognition and Machine Learning", equations 2.73 and 2.75.
    """
    missing, points = x.isnan(), x.shape[1]
    precision = (vectors / variances) @ vectors.T
    distance = torch.where(missing, 0.0, x)
    pull, spread, volume = distance @ precision, x.new_zeros(points**2), x.new_zeros(len(x))
    for rows, most in _blocks(missing.sum(1)):
        hidden, places = missing[rows].to(torch.uint8).topk(most, dim=1)
        hidden = hidden.bool()  # the other places of a row that hides fewer points are an identity apart
        pairs = (places.unsqueeze(2) * points + places.unsqueeze(1)).flatten()
        apart = ~(hidden.unsqueeze(2) & hidden.unsqueeze(1))
        own = precision.flatten().index_select(0, pairs).view_as(apart).masked_fill_(apart, 0.0)
        own.diagonal(dim1=1, dim2=2).masked_fill_(~hidden, 1.0)
        factor = torch.linalg.cholesky(own)
        covariance = torch.cholesky_inverse(factor)
        volume[rows] = 2.0 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        force = pull[rows].gather(1, places).masked_fill_(~hidden, 0.0)
        mean = -(covariance @ force.unsqueeze(2)).squeeze(2)
        distance[rows] = distance[rows].scatter_add(1, places, mean)
        spread.index_add_(0, pairs, covariance.masked_fill_(apart, 0.0).mul_(shares[rows].view(-1, 1, 1)).flatten())
    square = ((distance @ precision) * distance).sum(1)
    known = points - missing.sum(1)
    density = -0.5 * (known * math.log(2.0 * math.pi) + variances.log().sum() + volume + square)
    return _Expected(distance, spread.view(points, points), density)


def _blocks(counts: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Places of the rows that hide points, [batch], of similar numbers together, with the largest."""
    order = counts.argsort(descending=True)
    order, first = order[: int(counts.count_nonzero())], 0
    while first < len(order):
        most = int(counts[order[first]])
        last = first + max(1, _ENTRIES // most**2)
        yield order[first:last], most
        first = last
