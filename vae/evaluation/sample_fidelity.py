"""How much two samples differ: the energy distance, and how often a classifier tells them apart.

Rows come in blocks, which stand for the independent parts of a sample: equal parts of independent rows, or stretches of
consecutive days, which resemble each other. Pairs within a block count in no distance, no classifier is asked about a
block that it has learned from, and standard errors are across blocks.

Reference: Székely, Rizzo (2013), "Energy statistics", J. Stat. Plan. Inference 143(8); Efron, Stein (1981), "The
jackknife estimate of variance", Ann. Stat. 9(3); Lopez-Paz, Oquab (2017), "Revisiting classifier two-sample tests",
arXiv:1610.06545.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from vae.evaluation.estimate import Estimate

Array = NDArray[np.float64]
Blocks = Sequence[Tensor]

BLOCKS = 20
_FOLDS = 4
_HIDDEN = (64, 64)


def in_blocks(rows: Tensor) -> list[Tensor]:
    """Rows [n, D] in ``BLOCKS`` consecutive blocks."""
    return list(rows.tensor_split(BLOCKS))


def matched(a: Blocks, b: Blocks, most: int) -> tuple[list[Tensor], list[Tensor]]:
    """Evenly spaced rows of a and of b: as many of each block of a as of that of b, and at most so many of each."""
    counts = [min(len(x), len(y), max(1, most // len(a))) for x, y in zip(a, b, strict=True)]
    first, second = ([_spaced(x, n) for x, n in zip(blocks, counts, strict=True)] for blocks in (a, b))
    return first, second


def energy_distance(a: Blocks, b: Blocks) -> Estimate:
    """2 E|x - y| - E|x - x'| - E|y - y'| of rows x, x' of a and y, y' of b, in units of their length.

    The expectations within a sample are over pairs of different blocks. So the estimate has no bias, and is as often
    below 0 as above where both samples have one distribution. The error is the jackknife's over blocks, which is never
    too small on average.
    """
    sizes_a, sizes_b = (torch.tensor([len(block) for block in blocks], dtype=torch.float64) for blocks in (a, b))
    across, within_a, within_b = _sums(a, b), _sums(a, a), _sums(b, b)
    within_a, within_b = within_a - within_a.diagonal().diag(), within_b - within_b.diagonal().diag()

    def distance(keep_a: Tensor, keep_b: Tensor) -> Tensor:
        """The distance of the blocks with weight 1 in ``keep_a`` [*, block] and ``keep_b``, others with 0; [*]."""
        return 2.0 * _mean(across, keep_a, keep_b, sizes_a, sizes_b) - sum(
            _mean(sums, keep, keep, sizes, sizes, apart=True)
            for sums, keep, sizes in ((within_a, keep_a, sizes_a), (within_b, keep_b, sizes_b))
        )

    ones_a, ones_b = torch.ones_like(sizes_a), torch.ones_like(sizes_b)
    without_a = distance(1.0 - torch.eye(len(a), dtype=torch.float64), ones_b.expand(len(a), -1))
    without_b = distance(ones_a.expand(len(b), -1), 1.0 - torch.eye(len(b), dtype=torch.float64))
    variance = sum((len(x) - 1) * x.var(correction=0) for x in (without_a, without_b))
    return Estimate(distance(ones_a, ones_b).item(), math.sqrt(variance))


def boosting_accuracy(a: Blocks, b: Blocks, *, seed: int) -> Estimate:
    """How often boosted trees tell held-out rows of a from those of b; a and b have as many rows, 0.5 is chance."""
    return _accuracy(HistGradientBoostingClassifier(random_state=seed), a, b)


def network_accuracy(a: Blocks, b: Blocks, *, seed: int) -> Estimate:
    """How often a small network tells held-out rows of a from those of b; a and b have as many rows, 0.5 is chance."""
    network = MLPClassifier(_HIDDEN, early_stopping=True, n_iter_no_change=20, max_iter=300, random_state=seed)
    return _accuracy(make_pipeline(StandardScaler(), network), a, b)


def _accuracy(classifier: Any, a: Blocks, b: Blocks) -> Estimate:  # noqa: ANN401 - scikit-learn has no types
    """Accuracy by cross-validation over blocks; its error is that of the mean over pairs of a block of a and of b."""
    x = np.concatenate([rows.numpy() for rows in (*a, *b)])
    block = np.concatenate([np.full(len(rows), n) for rows_of in (a, b) for n, rows in enumerate(rows_of)])
    label = np.repeat([0, 1], [sum(len(rows) for rows in a), sum(len(rows) for rows in b)])
    right = np.empty(len(x), dtype=bool)
    for fold in range(_FOLDS):
        held = block % _FOLDS == fold
        right[held] = classifier.fit(x[~held], label[~held]).predict(x[held]) == label[held]
    by_block = np.array([right[block == n].mean() for n in range(len(a))])
    return Estimate(float(right.mean()), float(by_block.std(ddof=1) / math.sqrt(len(by_block))))


def _spaced(rows: Tensor, count: int) -> Tensor:
    return rows[torch.linspace(0, len(rows) - 1, count).round().long()]


def _sums(a: Blocks, b: Blocks) -> Tensor:
    """Sums of the distances of the rows of two blocks, [block of a, block of b]."""
    whole, sizes = torch.cat(list(b)), [len(block) for block in b]
    rows = [torch.stack([part.sum() for part in torch.cdist(block, whole).split(sizes, dim=1)]) for block in a]
    return torch.stack(rows).double()


def _mean(sums: Tensor, left: Tensor, right: Tensor, sizes: Tensor, others: Tensor, *, apart: bool = False) -> Tensor:
    """Mean distance of the rows in weighted blocks, left and right [*, block], whose numbers are given, [*].

    ``apart`` leaves out the pairs within a block, whose sums are 0.
    """
    total = torch.einsum("...i,ij,...j->...", left, sums, right)
    pairs = (left @ sizes) * (right @ others)
    return total / (pairs - left @ sizes.square() if apart else pairs)
