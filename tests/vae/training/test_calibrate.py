"""Calibration to surfaces drawn from laws that are known."""

import pytest
import torch
from torch import Tensor

from vae.model import completion
from vae.model.autoencoder import Architecture, Vae
from vae.model.calibration import COUNTS, OPEN, Calibration
from vae.model.linear import principal_components
from vae.training.calibrate import _factors, _Trials, calibrate

TENORS, NODES, LATENTS = 3, 4, 2


def normal(rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(TENORS * NODES, TENORS * NODES, generator=generator, dtype=torch.float64)
    return (torch.randn(rows, TENORS * NODES, generator=generator, dtype=torch.float64) * 0.5 ** torch.arange(12)) @ mix


def model_of(x: Tensor) -> Vae:
    points = x.shape[1]
    architecture = Architecture(points, points, LATENTS, 8, 1, residual_factors=points - 1, sees_missing=True)
    return Vae.from_components(architecture, principal_components(x))


@pytest.mark.slow
def test_normal_surfaces_need_no_wider_intervals_and_have_uniform_p_values() -> None:
    x = normal(3000)
    model = model_of(x)
    model.calibration = calibrate(model, x[:1000], shape=(TENORS, NODES), seed=1)
    assert model.calibration.degrees >= 50.0
    assert model.calibration.factors.max() < 1.1
    for count, seen in completion.random_points(x[1000:], (3, 7), seed=2):
        found = completion.complete(model, seen)
        p = model.calibration.p_value(found.misfit, torch.full_like(found.misfit, count))
        assert abs((p < 0.1).double().mean() - 0.1) < 0.03
        assert abs(p.mean() - 0.5) < 0.03


@pytest.mark.slow
def test_days_of_other_sizes_are_seen_and_their_intervals_are_not_too_narrow() -> None:
    x = normal(1200)
    torch.manual_seed(3)
    size = (5.0 / torch.distributions.Chi2(torch.tensor(5.0, dtype=torch.float64)).sample((len(x),))).sqrt()
    x = size.unsqueeze(1) * x
    model = model_of(x)
    model.calibration = calibrate(model, x[:600], shape=(TENORS, NODES), seed=1)
    assert 3.0 < model.calibration.degrees <= 10.0
    for _, seen in completion.random_points(x[600:], (5,), seed=2):
        found, hidden = completion.complete(model, seen), seen.isnan()
        inside = ((x[600:] - found.mean).abs() <= 1.645 * found.std)[hidden].double().mean()
        assert 0.88 < inside < 0.95


def test_numbers_of_points_and_what_they_leave_open_have_factors_of_their_own() -> None:
    """Errors are twice too large from 20 points, and three times where these leave much open."""
    generator = torch.Generator().manual_seed(1)
    size = {3: (1.0, 1.0), 20: (2.0, 3.0)}
    trials = [
        _Trials(
            misfit=torch.full((400,), float(number), dtype=torch.float64),
            number=torch.full((400,), float(number), dtype=torch.float64),
            left_open=torch.full((400,), left_open, dtype=torch.float64),
            ratio=factor * torch.randn(400, 50, generator=generator, dtype=torch.float64).abs(),
        )
        for number, factors in size.items()
        for left_open, factor in zip((OPEN[0], OPEN[3]), factors, strict=True)
    ]
    found = _factors(Calibration(), trials)
    assert (found[COUNTS.index(3)] - 1.0).abs().max() < 0.02
    assert abs(found[COUNTS.index(20), 0] - 2.0) < 0.05
    assert abs(found[COUNTS.index(20), 3] - 3.0) < 0.06
    assert 2.0 < found[COUNTS.index(20), 5] < 3.0, "of the whole row"
