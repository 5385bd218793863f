"""How much samples resemble data: the energy distance, and the accuracy of a classifier between the two.

Reference: Székely, Rizzo (2013), "Energy statistics", J. Stat. Plan. Inference 143(8); Lopez-Paz, Oquab (2017),
"Revisiting classifier two-sample tests", arXiv:1610.06545.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

Array = NDArray[np.float64]

_FOLDS = 4
_HIDDEN = (64, 64)


def energy_distance(a: Tensor, b: Tensor, *, unit: Tensor) -> float:
    """2 E|a - b| - E|a - a'| - E|b - b'| of rows [n, D] and [m, D] in units of ``unit`` [D], averaged over points.

    The expectations are over all pairs, those of a row with itself included. So the distance is never negative, and 0
    for equal samples. For two samples of one distribution it is about the mean distance times (1/n + 1/m): compare it
    with the distance of two samples of the data.
    """
    a, b = (rows / unit / rows.shape[1] ** 0.5 for rows in (a, b))
    across, within = torch.cdist(a, b).mean(), torch.cdist(a, a).mean() + torch.cdist(b, b).mean()
    return (2.0 * across - within).item()


def classifier_accuracy(a: Array, b: Array, *, seed: int) -> float:
    """Held-out accuracy of the better of two classifiers at telling rows a [n, F] from as many rows b; 0.5 is chance.

    Boosted trees and a small network, by cross-validation.
    """
    count = min(len(a), len(b))
    features = np.concatenate([a[:count], b[:count]])
    labels = np.repeat([0, 1], count)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    network = MLPClassifier(_HIDDEN, early_stopping=True, n_iter_no_change=20, max_iter=300, random_state=seed)
    classifiers = (HistGradientBoostingClassifier(random_state=seed), make_pipeline(StandardScaler(), network))
    return max(float(cross_val_score(each, features, labels, cv=folds).mean()) for each in classifiers)
