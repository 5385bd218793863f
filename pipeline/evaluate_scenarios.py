"""Figures of a law of motion: it walks through the test dates beside historical simulations of the same dates."""

import numpy as np

from pipeline.dynamics import Dated, dated, tested_dates
from pipeline.files.dataset import SPLITS, Dataset
from pipeline.files.motion_file import Motion
from pipeline.settings.evaluate import EvaluateParams
from vae.dynamics.fit import History, walk
from vae.dynamics.law import FORMS, Array
from vae.evaluation.scenarios import Forecasts, forecasts, scenario_metrics
from vae.model.autoencoder import Vae


def scenario_figures(motion: Motion, model: Vae, data: Dataset, settings: EvaluateParams) -> dict[str, float]:
    """Energy scores and coverage of the test dates; none where there are no test dates.

    The law of each date is fitted to all dates up to it, in the coordinates of the model. Historical simulations work
    on the log vols themselves.
    """
    count = tested_dates(data, motion.underlying)
    if not count:
        return {}
    found = dated(model, data, SPLITS, motion.underlying)
    center = model.center.numpy()
    plain = _plain(found, center)
    rivals = (_forecast(plain, found, center, form, count, settings) for form in ("filtered_historical", "historical"))
    return scenario_metrics(_forecast(found.history, found, center, motion.form, count, settings), *rivals)


def _plain(found: Dated, center: Array) -> History:
    """The same history in coordinates that are the log vols less ``center``, [D]; the model fills missing ones."""
    history = found.history
    modelled = history.coordinates @ history.basis.T
    known = np.where(np.isnan(found.points), modelled, found.points - center)
    return history._replace(coordinates=known, basis=np.eye(len(center)))


def _forecast(
    history: History, found: Dated, center: Array, form: str, count: int, settings: EvaluateParams
) -> Forecasts:
    first = len(history.days) - count
    return forecasts(walk(history, FORMS[form]), found.points, center, first=first, seed=settings.seed)
