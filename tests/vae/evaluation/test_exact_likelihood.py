import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from vae.evaluation import exact_likelihood
from vae.pricing import heston_jacobian, heston_surfaces
from vae.surface.grid import Grid


def test_a_curve_in_the_plane_against_quadrature() -> None:
    """One parameter on [0, 1], two observations: the integral over the parameter by adaptive quadrature."""
    scale = 1e-3
    noise = np.random.default_rng(3).normal(0.0, scale, (5, 2))
    for theta, e in zip(np.linspace(0.2, 0.8, 5), noise, strict=True):
        x = np.array([theta, math.sin(theta)]) + e

        def density(t: float, x: np.ndarray = x) -> float:
            distance = (x[0] - t) ** 2 + (x[1] - math.sin(t)) ** 2
            return math.exp(-0.5 * distance / scale**2) / (2 * math.pi * scale**2)

        near = (theta - 0.02, theta + 0.02)
        exact = math.log(quad(density, *near, points=[theta], epsabs=0.0, epsrel=1e-10)[0])
        jacobian = torch.tensor([[[1.0], [math.cos(theta)]]], dtype=torch.float64)
        ours = exact_likelihood.log_likelihood(jacobian, torch.from_numpy(e[None]), scale=scale, log_volume=0.0)
        assert ours.item() == pytest.approx(exact, abs=5e-3)


@pytest.mark.slow
def test_heston_surfaces_against_importance_sampling() -> None:
    """The integral over all five parameters by 4,000 exact surfaces about the truth, for four noisy surfaces."""
    scale, draws = 1e-4, 4000
    grid = Grid(np.array([26, 182, 364]) / 365, np.linspace(-0.4, 0.3, 9))
    truth = torch.tensor(
        [
            [0.04, 2.0, 0.09, 0.5, -0.6],
            [0.1, 1.0, 0.05, 0.7, -0.3],
            [0.02, 3.0, 0.1, 0.4, -0.8],
            [0.07, 4.0, 0.03, 0.9, -0.5],
        ],
        dtype=torch.float64,
    )
    generator = torch.Generator().manual_seed(1)
    clean = heston_surfaces.surfaces(truth, grid).vol.flatten(1)
    noise = scale * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    jacobian = heston_jacobian.jacobian(truth, grid).flatten(1, 2)
    ours = exact_likelihood.log_likelihood(jacobian, noise, scale=scale, log_volume=0.0)

    for row in range(len(truth)):
        q, r = torch.linalg.qr(jacobian[row])
        factor = 1.3 * scale * torch.linalg.inv(r)  # of the proposal: a little wider than the posterior
        centre = truth[row] + torch.linalg.inv(r) @ (q.T @ noise[row])
        z = torch.randn(draws, 5, generator=generator, dtype=torch.float64)
        surfaces = heston_surfaces.surfaces(centre + z @ factor.T, grid).vol.flatten(1)
        distance = (clean[row] + noise[row] - surfaces).square().sum(1) / scale**2
        log_density = -0.5 * distance - 0.5 * surfaces.shape[1] * math.log(2 * math.pi * scale**2)
        log_proposal = -0.5 * z.square().sum(1) - 2.5 * math.log(2 * math.pi) - factor.det().abs().log()
        estimate = torch.logsumexp(log_density - log_proposal, 0) - math.log(draws)
        assert ours[row].item() == pytest.approx(estimate.item(), abs=0.1)
