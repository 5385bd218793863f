import math
from dataclasses import replace

import pytest
import torch

from vae.training.schedule import Schedule

SCHEDULE = Schedule(
    epochs=100, batch=100, learning_rate=3e-3, scale_rate=10.0, warmup_steps=50, gradient_clip=1e3, seed=5
)


def test_the_kl_warms_up_and_the_scaffold_is_squeezed() -> None:
    schedule, like = replace(SCHEDULE, scaffold_latents=1, beta=0.5, beta_warmup_epochs=10), torch.zeros(2)
    weights = {epochs: schedule.kl_weights(epochs, like, latents=1).tolist() for epochs in (0.0, 5.0, 12.0, 55.0)}
    assert weights[0.0] == [0.0, 0.0]
    assert weights[5.0] == [0.25, 0.25]
    assert weights[12.0] == [0.5, 0.5]
    own, extra = weights[55.0]
    assert own == 0.5
    assert extra > 100.0


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    rates = [SCHEDULE.rate(step, 10, scaffolded=False) for step in range(1000)]
    assert rates[0] == pytest.approx(3e-3 / 50)
    assert max(rates) == rates[49] == pytest.approx(3e-3, rel=1e-2)
    assert rates[500] == pytest.approx(1.5e-3)
    assert rates[49:] == sorted(rates[49:], reverse=True)
    assert rates[-1] < 1e-7


def test_the_warm_up_is_repeated_after_the_scaffold_and_before_the_penalty() -> None:
    schedule = replace(SCHEDULE, scaffold_latents=2, penalty_epochs=20)
    dropped = 10 * schedule.scaffold_epochs
    assert dropped == 10 * math.ceil(0.55 * 100)
    before, after = (schedule.rate(dropped, 10, scaffolded=flag) for flag in (True, False))
    assert after == pytest.approx(before / 50)
    penalised = [schedule.rate(step, 10, scaffolded=False) for step in range(1000, 1200)]
    assert penalised[0] == pytest.approx(0.25 * 3e-3 / 50)
    assert max(penalised) < 0.25 * 3e-3
    assert penalised[-1] < 1e-6
