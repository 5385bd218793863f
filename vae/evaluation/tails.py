"""How far the tails of samples are those of data: quantiles of features of surfaces, and how often two are in a tail.

A distance between samples hardly sees one surface in a thousand; whoever draws scenarios does.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from vae.evaluation.estimate import quantile
from vae.surface import smile_features
from vae.surface.grid import Grid
from vae.surface.units import BASIS_POINTS

_LEVEL, _LEAST_ROWS = 1e-3, 10  # of a tail: its share of the surfaces, and the fewest surfaces that it holds
_JOINT_LEVEL = 0.01
_EVENTS = {  # two features, and whether each is high (1) or low (-1)
    "short_vol_high_term_low": (("atm_first", 1), ("term_slope", -1)),
    "both_wings_high": (("left_wing", 1), ("right_wing", 1)),
    "curvature_high_skew_high": (("curvature", 1), ("skew", 1)),
}
_SHOWN = ("atm_first", "atm_middle", "atm_last", "skew", "term_slope")


def features(grid: Grid) -> dict[str, Tensor]:
    """Weights [D] of the vols in each feature that the grid has, by name.

    At-the-money vols at the first, the middle and the last tenor; skew, and curvature (ends less twice the middle), at
    the middle tenor; the vols at both ends of the first smile; the term slope.
    """
    last, middle = len(grid.tenors) - 1, len(grid.tenors) // 2
    try:
        first, central, final = (smile_features.at_the_money(grid, tenor) for tenor in (0, middle, last))
        skew, slope = smile_features.functionals(("skew", "term_slope"), grid)
    except ValueError:
        return {}
    ends = np.zeros((3, *grid.shape))
    ends[0, 0, 0] = ends[1, 0, -1] = ends[2, middle, 0] = ends[2, middle, -1] = 1.0
    weights = {
        "atm_first": first,
        "atm_middle": central,
        "atm_last": final,
        "skew": skew,
        "term_slope": slope,
        "left_wing": ends[0],
        "right_wing": ends[1],
        "curvature": ends[2] - 2.0 * central,
    }
    return {name: torch.from_numpy(values).flatten() for name, values in weights.items()}


def tail_metrics(samples: Tensor, data: Tensor, weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Tail quantiles of samples less those of data, in bp of vol, and how often two features are in a tail together.

    The tails are those of one surface in a thousand, or wider ones where there are fewer than ten thousand surfaces; of
    joint tails one in a hundred of the data. Standard errors are those of independent surfaces.

    Args:
        samples: vols, [n, D].
        data: likewise, [m, D].
        weights: of ``features``; without any there are no figures.
    """
    level = max(_LEVEL, _LEAST_ROWS / min(len(samples), len(data)))
    if not weights or level >= 0.5:
        return {}
    figures = {"tail_level": level}
    of_samples, of_data = ({name: rows @ w for name, w in weights.items()} for rows in (samples, data))
    for name in _SHOWN:
        for end, at in (("low", level), ("high", 1.0 - level)):
            found = quantile(of_samples[name], at).less(quantile(of_data[name], at))
            figures[f"sample_tail_{name}_{end}_bp"] = BASIS_POINTS * found.value
            figures[f"sample_tail_{name}_{end}_se_bp"] = BASIS_POINTS * found.error
    for event, pair in _EVENTS.items():
        for kind, values in (("sample", of_samples), ("data", of_data)):
            inside = [
                sign * values[name] > torch.quantile(sign * of_data[name], 1.0 - _JOINT_LEVEL) for name, sign in pair
            ]
            figures[f"{kind}_joint_tail_{event}_rate"] = torch.stack(inside).all(0).double().mean().item()
    return figures
