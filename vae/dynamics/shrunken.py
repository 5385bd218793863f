"""Regressions that see one observation after another and shrink as much as their past errors say.

Ridge regressions with several penalties run side by side. Each forecasts before it learns. Their average, weighted by
the Gaussian likelihood of the past forecasts, is the forecast: no penalty is tuned with data that it did not know.

Reference: Raftery, Karny, Ettler (2010), "Online prediction under model uncertainty via dynamic model averaging",
Technometrics 52(1).
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_REFITTED = 5  # steps after which the coefficients are solved for again
_LARGEST = 4.0  # size of an error in deviations beyond which it counts no more: one wild day must not decide


class ShrunkenRegressions:
    """Regressions of targets [target] on features of each, [target, feature], for several penalties."""

    def __init__(self, targets: int, penalties: Array) -> None:
        """Start without observations.

        Args:
            targets: number of regressions.
            penalties: of each feature, in numbers of observations, [penalty, feature].
        """
        features = penalties.shape[1]
        self._penalties = penalties
        self._gram, self._cross = np.zeros((targets, features, features)), np.zeros((targets, features))
        self._errors = np.zeros(len(penalties))  # sums of the mean squared error of a target
        self._found = np.zeros((len(penalties), targets, features))
        self._seen = 0

    @property
    def coefficients(self) -> Array:
        """The averaged coefficients, [target, feature]."""
        weights = np.exp(-0.5 * (self._errors - self._errors.min()))
        return np.tensordot(weights / weights.sum(), self._found, axes=1)

    def learn(self, features: Array, target: Array, deviation: Array) -> None:
        """One more observation.

        Args:
            features: [target, feature].
            target: [target].
            deviation: of the targets, as known before, [target].
        """
        errors = (target - np.einsum("ltf,tf->lt", self._found, features)) / deviation
        self._errors += np.square(np.clip(errors, -_LARGEST, _LARGEST)).mean(axis=1)
        scaled, response = features / deviation[:, None], np.clip(target / deviation, -_LARGEST, _LARGEST)
        self._gram += scaled[:, :, None] * scaled[:, None, :]
        self._cross += scaled * response[:, None]
        self._seen += 1
        if self._seen % _REFITTED == 0:
            self._found = self._solved()

    def _solved(self) -> Array:
        """Coefficients for each penalty, [penalty, target, feature]; features are penalised in units of their size."""
        size = np.sqrt(np.einsum("tff->tf", self._gram) / self._seen)
        size = np.where(size > 0.0, size, 1.0)
        gram, cross = self._gram / (size[:, :, None] * size[:, None, :]), self._cross / size
        ridge = self._penalties[:, None, :, None] * np.eye(gram.shape[1])
        return np.linalg.solve(gram + ridge, cross[..., None])[..., 0] / size
