import math

import pytest
import torch

from vae.fit import DivergedError, Fit, Schedule
from vae.model import Architecture, Vae
from vae.ppca import principal_components

SCHEDULE = Schedule(
    epochs=30, batch=32, learning_rate=5e-3, scale_rate=10.0, warmup_steps=10, gradient_clip=1e3, seed=5
)


def new_fit(schedule: Schedule = SCHEDULE, rows: int = 512) -> Fit:
    """A curve in ten dimensions with a little noise: pPCA with one latent cannot follow it."""
    generator = torch.Generator().manual_seed(1)
    t = torch.rand(rows, 1, generator=generator, dtype=torch.float64) * 4.0 - 2.0
    mix = torch.randn(2, 10, generator=generator, dtype=torch.float64)
    x = torch.cat([2.0 * t, 0.3 * t.square()], dim=1) @ mix
    x = x + 0.01 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    torch.manual_seed(2)
    model = Vae.from_components(Architecture(10, 10, 1, 32, 2), principal_components(x)).float()
    held_out = rows // 4
    coordinates = model.coordinates(x.float())
    return Fit(model, coordinates.at(torch.arange(held_out, rows)), coordinates.at(torch.arange(held_out)), schedule)


def test_training_improves_on_ppca() -> None:
    fit = new_fit()
    history = list(fit.epochs())

    assert [epoch.number for epoch in history] == list(range(1, 31))
    assert fit.best_elbo > fit.initial_elbo + 1.0
    assert fit.best_elbo == max(epoch.validation_elbo for epoch in history)
    assert all(math.isfinite(epoch.train_elbo) for epoch in history)


def test_resumed_run_ends_in_the_same_bits() -> None:
    """State saved after two epochs and restored into a new process' worth of objects."""
    straight = new_fit()
    list(straight.epochs())

    first = new_fit()
    epochs = first.epochs()
    next(epochs)
    next(epochs)
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    resumed = new_fit()
    resumed.restore(state)
    history = list(resumed.epochs())

    assert [epoch.number for epoch in history] == list(range(3, 31))
    assert resumed.best_elbo == straight.best_elbo
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    for name, value in straight.best_weights.items():
        assert torch.equal(value, resumed.best_weights[name]), name


def test_best_weights_are_kept_when_training_gets_worse() -> None:
    """A learning rate that ruins the model: what ships is never below the pPCA start."""
    reckless = new_fit(Schedule(3, 32, 0.3, 1.0, 0, 1e9, 5))
    history = list(reckless.epochs())
    assert history[-1].validation_elbo < reckless.initial_elbo  # it did get worse
    assert reckless.best_elbo >= reckless.initial_elbo


def test_gradients_that_are_not_finite_are_skipped_and_end_the_run() -> None:
    fit = new_fit(Schedule(60, 2, 1e-3, 1.0, 0, 1e3, 5))
    with torch.no_grad():
        fit.model.log_scale.fill_(math.nan)
    with pytest.raises(
        DivergedError, match=r"10 gradients in a row, the last in epoch 1, are not finite: lower train\.learning_rate"
    ):
        list(fit.epochs())


def test_fewer_surfaces_than_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 500 needs as many training surfaces, but there are 384"):
        new_fit(Schedule(1, 500, 1e-3, 1.0, 0, 1e3, 5))
