"""How far samples are from data: distances, tails and, of simulated data, parameters outside of their box."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pipeline.files.dataset import Dataset, SimulatedLaw
from pipeline.settings.evaluate import EvaluateParams
from vae.evaluation import parameter_fit, tails
from vae.evaluation.metrics import fidelity_metrics
from vae.evaluation.sample_fidelity import BLOCKS, Blocks, in_blocks
from vae.model.rows import complete
from vae.pricing.simulated_models import MODELS
from vae.surface.grid import Grid
from vae.surface.units import BASIS_POINTS

_FEWEST = 50  # complete surfaces of a sample that is compared
_ROWS = 4096  # surfaces priced at a time
_FITTED, _MOST_STARTS = 400, 20_000  # surfaces whose parameters are found, and training surfaces to start from
_FIT_TENORS, _FIT_NODES = 6, 11  # at most, of the points that are fitted
_OUTSIDE = 0.02  # of a side of the box: beyond it parameters count as outside
_OFF_BP = 5.0  # root mean square error beyond which no surface of the model fits


def sample_figures(
    data: Dataset,
    observed: Mapping[str, Tensor],
    decoded: Mapping[str, Tensor],
    directions: Tensor,
    settings: EvaluateParams,
) -> dict[str, float]:
    """Distances and tails of samples beside those of the data; empty where too few surfaces are complete.

    Simulated data is drawn afresh, as many surfaces as samples. Samples and training surfaces (``floor``) are compared
    with these. Other data is dated, and samples are compared with the training period. ``floor`` is the distance
    between the two halves of that period, ``drift`` from it to the test period, ``sample_to_test`` from samples to the
    test period: compare it with ``drift``.

    Args:
        data: the data set.
        observed: samples with their noise [n, D] of the prior that ships, named ``sample``, and of others.
        decoded: vols without noise: samples as they ship, ``sample``, and ``reconstruction`` of test surfaces.
        directions: along which classifiers see surfaces, [D, F].
        settings: of the stage.
    """
    law, grid, seed = data.law, data.grid, settings.seed
    train = torch.from_numpy(data.points("train"))
    whole = complete(train)
    if law is not None:
        truth = fresh_surfaces(law, grid, settings.prior_samples, seed=seed)
        noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed), dtype=truth.dtype)
        reference = truth + law.quote_noise_vol * noise
        order = whole[torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))]
        compared = {"floor": (train[order[: settings.prior_samples]].double(), reference)}
    else:
        truth = reference = train[whole].double()
        test = torch.from_numpy(data.points("test"))
        test = test[complete(test)].double()
        compared = {"drift": (reference, test), "sample_to_test": (observed["sample"], test)}
    compared |= {name: (rows, reference) for name, rows in observed.items()}
    if min(len(rows) for pair in compared.values() for rows in pair) < _FEWEST:
        return {}
    pairs: dict[str, tuple[Blocks, Blocks]] = {name: (in_blocks(a), in_blocks(b)) for name, (a, b) in compared.items()}
    if law is None:
        pairs["floor"] = interleaved_halves(reference)
    figures = {
        **fidelity_metrics(pairs, reference, directions, seed=seed),
        **tails.tail_metrics(decoded["sample"], truth, tails.features(grid)),
    }
    parameters = data.parameters("train")
    if law is not None and parameters is not None:
        some = order[:_MOST_STARTS]
        starts = torch.from_numpy(data.truth("train"))[some].double(), torch.from_numpy(parameters)[some]
        for name, vols in decoded.items():
            figures |= _fit_figures(name, vols[:_FITTED], starts, law, grid)
    return figures


def interleaved_halves(rows: Tensor) -> tuple[Blocks, Blocks]:
    """Two halves of rows in order of time [n, D]: stretches in turns, so that both halves see all of the period."""
    stretches = rows.tensor_split(2 * BLOCKS)
    return stretches[::2], stretches[1::2]


def fresh_surfaces(law: SimulatedLaw, grid: Grid, count: int, *, seed: int) -> Tensor:
    """Exact surfaces of independent parameters, [surface, D]; of ``count``, those with all vols."""
    low, high = np.array(law.low), np.array(law.high)
    unit = np.random.default_rng(seed).random((count, len(low)))
    parts = torch.from_numpy(low + (high - low) * unit).split(_ROWS)
    priced = [_priced(part, law, grid) for part in parts]
    return torch.cat([part[complete(part)] for part in priced])


def _priced(parameters: Tensor, law: SimulatedLaw, grid: Grid) -> Tensor:
    """Vols [batch, D]; NaN where there is none."""
    priced = MODELS[law.model].surfaces(parameters, grid, vol_tolerance=law.vol_tolerance, compiled=False)
    return priced.vol.flatten(1)


def _fit_figures(
    name: str, vols: Tensor, starts: tuple[Tensor, Tensor], law: SimulatedLaw, grid: Grid
) -> dict[str, float]:
    """Shares of surfaces whose parameters are outside of the box, and of those that no surface of the model fits.

    Some points of the grid are enough for a few parameters. The fit starts from the nearest training surface.
    """
    few, points = _some_points(grid)
    surfaces, parameters = starts
    nearest = torch.cdist(vols[:, points], surfaces[:, points]).argmin(1)
    low, high = torch.tensor(law.low, dtype=torch.float64), torch.tensor(law.high, dtype=torch.float64)
    found = parameter_fit.fitted(lambda some: _priced(some, law, few), vols[:, points], parameters[nearest], low, high)
    figures = {}
    for kind, is_so in (
        ("outside_box", found.outside() > _OUTSIDE),
        ("off_model", found.error * BASIS_POINTS > _OFF_BP),
    ):
        share = is_so.double().mean().item()
        figures[f"{name}_{kind}_rate"] = share
        figures[f"{name}_{kind}_se_rate"] = math.sqrt(share * (1.0 - share) / len(vols))
    return figures


def _some_points(grid: Grid) -> tuple[Grid, Tensor]:
    """A grid of some of the tenors and nodes, evenly spaced by number, and the places of its points among all."""
    tenors, nodes = (
        np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(int))
        for size, most in zip(grid.shape, (_FIT_TENORS, _FIT_NODES), strict=True)
    )
    places = (tenors[:, None] * grid.shape[1] + nodes).ravel()
    return Grid(grid.tenors[tenors], grid.nodes[nodes], grid.convention), torch.from_numpy(places)
