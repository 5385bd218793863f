"""Exact Heston surfaces of different shapes."""

import numpy as np
import torch

from vae.pricing.simulated_models import MODELS
from vae.surface.grid import Convention, Grid

_PARAMETERS = [  # v0, kappa, theta, vol of vol, rho
    [0.02, 1.0, 0.09, 0.5, -0.7],
    [0.12, 4.0, 0.03, 0.9, -0.3],
    [0.05, 2.0, 0.05, 0.3, -0.9],
    [0.03, 0.7, 0.04, 0.8, -0.5],
]


def heston(days: np.ndarray, nodes: np.ndarray, convention: Convention = "sqrt_time") -> tuple[np.ndarray, Grid]:
    """Vols [4, tenor, node] at tenors in days, and their grid."""
    grid = Grid(days / 365, nodes, convention)
    parameters = torch.tensor(_PARAMETERS, dtype=torch.float64)
    return MODELS["heston"].surfaces(parameters, grid, vol_tolerance=1e-6, compiled=False).vol.numpy(), grid
