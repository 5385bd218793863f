"""Errors of points against dense normal laws, and on surfaces with a point that is wrong."""

import pytest
import torch

from vae.model import laplace
from vae.model.autoencoder import Architecture, Vae
from vae.model.linear import principal_components
from vae.model.point_errors import PointErrors, point_errors
from vae.model.point_posterior import pose_points, posterior_given_points


def surfaces(rows: int, points: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(points, points, generator=generator, dtype=torch.float64)
    drawn = torch.randn(rows, points, generator=generator, dtype=torch.float64)
    return (drawn * 0.7 ** torch.arange(points)) @ mix


def linear(x: torch.Tensor, factors: int) -> Vae:
    """A model without hidden units that have learned: a normal law."""
    points = x.shape[1]
    architecture = Architecture(points, points, 2, 8, 1, residual_factors=factors, sees_missing=True)
    return Vae.from_components(architecture, principal_components(x))


def errors(model: Vae, x: torch.Tensor, missing: torch.Tensor) -> PointErrors:
    problem, start = pose_points(model, x, missing)
    found = laplace.search(posterior_given_points(model, problem), start, steps=4)
    return point_errors(model, problem, found.z, found.curvature)


@pytest.mark.parametrize("factors", [0, 4])
def test_the_error_of_a_point_is_that_of_the_normal_law_given_the_others(factors: int) -> None:
    x = surfaces(400)
    model, given = linear(x, factors), x[:5]
    missing = torch.zeros_like(given)
    missing[0, :3] = missing[2, 5] = 1.0
    with torch.no_grad():
        found = errors(model, given, missing)
        zero = torch.zeros(1, 2).double()
        values, jacobian = model.decode_with_jacobian(zero)
        mean, loadings = model.natural(values)[0], (jacobian @ model.basis.T)[0]
        covariance = loadings.T @ loadings + model.scale.square() * torch.eye(8).double()
        if model.residual_factors is not None:
            covariance += model.residual_factors @ model.residual_factors.T
    for row in range(5):
        for point in range(8):
            if missing[row, point]:
                assert found.error[row, point] == 0.0
                continue
            others = [other for other in range(8) if other != point and not missing[row, other]]
            weights = torch.linalg.solve(covariance[others][:, others], covariance[others, point])
            variance = covariance[point, point] - weights @ covariance[others, point]
            expected = (given[row, point] - mean[point] - weights @ (given[row] - mean)[others]) / variance.sqrt()
            torch.testing.assert_close(found.error[row, point], expected, rtol=1e-6, atol=1e-8)


def test_errors_of_surfaces_of_the_model_are_standard_normal_and_their_misfit_is_chi_square() -> None:
    """With two latents and eight points the misfit has six degrees of freedom where the points fix the latents."""
    x = surfaces(4000)
    model = linear(x, 0)
    with torch.no_grad():
        z = torch.randn(20_000, 2).double()
        drawn = model.expand(model.decode(z)) + model.scale * torch.randn(20_000, 8).double()
        found = errors(model, drawn, torch.zeros_like(drawn))
    assert found.error.mean().abs() < 0.02
    assert abs(found.error.square().mean() - 1.0) < 0.02
    assert 5.9 < found.misfit.mean() < 6.3


def test_one_wrong_point_of_a_surface_without_noise_stands_out() -> None:
    """Its misfit is that of any surface; the error of the point is not."""
    x = surfaces(4000, points=24)
    model = linear(x, 0)
    with torch.no_grad():
        smooth = model.expand(model.decode(torch.randn(1, 2).double()))
        bumped = smooth.clone()
        bumped[0, 17] += 6.0 * model.scale
        found = errors(model, torch.cat([smooth, bumped]), torch.zeros(2, 24).double())
    assert found.misfit[0] < 1.0
    assert found.misfit[1] < 40.0
    assert found.error[1].abs().argmax() == 17
    assert found.error[1, 17] > 5.0
