import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.vae.model.test_elbo import cubature
from tests.vae.model.test_linear import CASES, data
from vae.model.autoencoder import Architecture, Observations, Scale, Vae
from vae.model.elbo import bounds, objective
from vae.model.linear import principal_components
from vae.training import soap
from vae.training import trainer as training
from vae.training.data_parallel import Replicas
from vae.training.schedule import Schedule
from vae.training.trainer import DivergedError, Trainer

SCHEDULE = Schedule(
    epochs=30, batch=32, learning_rate=5e-3, scale_rate=10.0, warmup_steps=10, gradient_clip=1e3, seed=5
)


def new_trainer(schedule: Schedule = SCHEDULE, rows: int = 512, *, compiled: bool = False) -> Trainer:
    """A curve in ten dimensions with a little noise: pPCA with one latent cannot follow it."""
    generator = torch.Generator().manual_seed(1)
    t = torch.rand(rows, 1, generator=generator, dtype=torch.float64) * 4.0 - 2.0
    mix = torch.randn(2, 10, generator=generator, dtype=torch.float64)
    x = torch.cat([2.0 * t, 0.3 * t.square()], dim=1) @ mix
    x = x + 0.01 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    torch.manual_seed(2)
    model = Vae.from_components(Architecture(10, 10, 1, 32, 2), principal_components(x)).float()
    held_out = rows // 4
    seen = model.observe(x.float())
    return Trainer(model, seen.at(slice(held_out, rows)), seen.at(slice(held_out)), schedule, compiled=compiled)


@pytest.mark.slow
def test_training_improves_on_ppca() -> None:
    trainer = new_trainer()
    history = list(trainer.epochs())

    assert [epoch.number for epoch in history] == list(range(1, 31))
    assert trainer.best_elbo > trainer.initial_elbo + 1.0
    assert trainer.best_elbo == max(epoch.validation_elbo for epoch in history)
    assert all(math.isfinite(epoch.train_objective) for epoch in history)


def test_weights_without_a_validation_elbo_are_not_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = new_trainer(replace(SCHEDULE, epochs=3))
    found = iter([-3.0, math.nan, -4.0])
    trainer.best_elbo = -5.0
    monkeypatch.setattr(trainer, "_validation_elbo", lambda _: next(found))
    list(trainer.epochs())
    assert (trainer.best_epoch, trainer.best_elbo) == (1, -3.0)


@pytest.mark.slow
def test_a_decoded_scale_learns_where_the_noise_is_large() -> None:
    """A line along which the noise grows thirtyfold: its size follows, and the bound is far above that of one size."""
    t = torch.rand(512, 1, dtype=torch.float64) * 4.0 - 2.0
    noise = 0.05 * torch.exp(0.85 * t)
    x = t @ torch.ones(1, 10).double() + noise * torch.randn(512, 10).double()
    best, kept = {}, {}
    for scale in ("point", "decoded"):
        torch.manual_seed(2)
        model = Vae.from_components(Architecture(10, 4, 1, 16, 1, scale=scale), principal_components(x)).float()
        seen = model.observe(x.float(), points=True)
        trainer = Trainer(model, seen.at(slice(128, 512)), seen.at(slice(128)), SCHEDULE)
        list(trainer.epochs())
        best[scale], kept[scale] = trainer.best_elbo, trainer.best_weights
    assert best["decoded"] > best["point"] + 2.0
    model.load_state_dict(kept["decoded"])
    ends = torch.tensor([x[t[:, 0].argmin()].tolist(), x[t[:, 0].argmax()].tolist()])
    with torch.no_grad():
        low, high = model.scale_at(model.encode(model.observe(ends).values).mean).mean(1)
    assert high > 5.0 * low


@pytest.mark.slow
def test_resumed_run_ends_in_the_same_bits() -> None:
    """State saved after two epochs and restored into a new process' worth of objects."""
    straight = new_trainer()
    list(straight.epochs())

    first = new_trainer()
    epochs = first.epochs()
    next(epochs)
    next(epochs)
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    resumed = new_trainer()
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
    reckless = new_trainer(Schedule(3, 32, 0.3, 1.0, 0, 1e9, 5))
    history = list(reckless.epochs())
    assert history[-1].validation_elbo < reckless.initial_elbo  # it did get worse
    assert reckless.best_elbo >= reckless.initial_elbo


def test_gradients_that_are_not_finite_are_skipped_and_end_the_run() -> None:
    trainer = new_trainer(Schedule(60, 2, 1e-3, 1.0, 0, 1e3, 5))
    with torch.no_grad():
        trainer.model.log_scale.fill_(math.nan)
    with pytest.raises(
        DivergedError, match=r"10 gradients in a row, the last in epoch 1, are not finite at a learning rate of 0\.001"
    ):
        list(trainer.epochs())


def test_fewer_surfaces_than_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 500 needs as many training surfaces, but there are 384"):
        new_trainer(Schedule(1, 500, 1e-3, 1.0, 0, 1e3, 5))


@pytest.mark.slow
def test_a_trained_linear_model_reaches_ppca() -> None:
    """Networks of depth 0, away from the solution: training ends within 1e-3 nats of the exact maximum likelihood."""
    name, case = next((name, case) for name, case in CASES if name == "breast_cancer")
    train, _ = data(name)
    components = principal_components(train)
    basis = int((components.variances > 1e-12).sum())
    torch.manual_seed(1)
    model = Vae.from_components(Architecture(train.shape[1], basis, case["q"], 4, 0), components)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    seen = model.observe(train)
    schedule = Schedule(2000, 450, 6e-3, 1.0, 20, 1e3, 5)
    trainer = Trainer(model, seen, seen, schedule)
    before = exact_elbo(trainer.model, seen)
    list(trainer.epochs())

    assert before < case["train_ll"] - 0.1
    assert exact_elbo(trainer.model, seen) == pytest.approx(case["train_ll"], abs=1e-3)


def exact_elbo(model: Vae, seen: Observations) -> float:
    """The mean bound of a linear model, whose expectation 2q points take exactly."""
    with torch.no_grad():
        return bounds(model, seen, cubature(model.architecture.latents, len(seen.values))).elbo.value.mean().item()


PARTS: list[dict[str, Any]] = [{}, {"residual_factors": 2}, {"scale": "decoded"}]  # the last two exclude each other
ON_CUDA = Schedule(12, 100, 3e-3, 10.0, 50, 1e3, 5, scaffold_latents=1, penalty_epochs=2)


def folded(schedule: Schedule, rows: int = 2000, *, device: str = "cpu", **parts: Any) -> Trainer:
    """Three quarters of a circle: its two ends coincide on the first principal direction.

    With parts of the architecture, such as ``scale``, points are missing too and the surfaces have weights.
    """
    generator = torch.Generator().manual_seed(3)
    angle = (torch.rand(rows, generator=generator, dtype=torch.float64) - 0.5) * 1.5 * math.pi
    x = torch.stack([angle.cos(), angle.sin(), 0.2 * angle.sin().square()], dim=1)
    x = x + 0.01 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    components = principal_components(x)
    points = bool(parts) or schedule.hidden_share > 0.0
    sizes = Architecture(3, 3, 1, 32, 2, sees_missing=points, **parts)
    weights = None
    if parts:
        x[torch.arange(rows) % 4 == 0, 1] = math.nan
        weights = (0.5 + (torch.arange(200, rows) % 2)).float().to(device)
    torch.manual_seed(4)
    start, model = (
        Vae.from_components(replace(sizes, latents=latents), components).float().to(device)
        for latents in (1, 1 + schedule.scaffold_latents)
    )
    seen = start.observe(x.float().to(device), points=points)
    penalty = (lambda points: points.square().sum(-1)) if schedule.penalty_epochs else None
    train, validation = seen.at(slice(200, rows)), seen.at(slice(200))
    return Trainer(model, train, validation, schedule, start=start, penalty=penalty, weights=weights)


@pytest.mark.slow
def test_the_scaffold_has_no_kl_left_when_it_is_dropped() -> None:
    """At the start both latents are used; at the drop the extra one has no KL left, and the bound does not move."""
    schedule = Schedule(80, 100, 3e-3, 10.0, 50, 1e3, 5, scaffold_latents=1)
    trainer = folded(schedule)
    for epoch in trainer.epochs():
        if epoch.number == schedule.scaffold_epochs:
            break
    with torch.no_grad():
        noise = torch.randn(16, 200, 2)
        before = bounds(trainer.model, trainer._validation, noise)
        after = bounds(trainer.model.without_last_latents(1), trainer._validation, noise[..., :1])
    own, extra = before.kl_of_latents.mean(0).tolist()
    assert own > 1.0
    assert extra < 0.05
    assert after.elbo.value.mean().item() == pytest.approx(before.elbo.value.mean().item(), abs=0.3)


@pytest.mark.slow
def test_the_result_has_the_final_number_of_latents_at_every_epoch() -> None:
    """While the scaffold stands the best weights stay those of the start."""
    trainer = folded(Schedule(60, 100, 3e-3, 10.0, 50, 1e3, 5, scaffold_latents=1))
    best = [(epoch.number, len(trainer.best_weights["log_std"]), trainer.best_elbo) for epoch in trainer.epochs()]
    assert [latents for _, latents, _ in best] == [1] * 60
    assert {elbo for number, _, elbo in best if number <= trainer.schedule.scaffold_epochs} == {trainer.initial_elbo}
    assert trainer.best_elbo > trainer.initial_elbo


def test_training_stops_when_validation_stays_behind() -> None:
    trainer = new_trainer(replace(SCHEDULE, epochs=200, learning_rate=0.3, scale_rate=1.0, patience_epochs=3))
    history = list(trainer.epochs())
    best = max(history, key=lambda epoch: epoch.validation_elbo)
    started_best = best.validation_elbo <= trainer.initial_elbo
    assert len(history) == (3 if started_best else best.number + 3) < 200
    assert trainer.finished


@pytest.mark.slow
def test_a_penalty_is_kept_after_the_schedule_and_its_cost_is_known() -> None:
    """The penalty wants a positive first point, which half of the samples have before."""
    schedule = replace(SCHEDULE, penalty_epochs=25, penalty_samples=64)
    trainer = new_trainer(schedule)
    trainer._penalty = lambda x: 1e3 * (1.0 - x[:, 0]).relu()
    history = list(trainer.epochs())

    assert [epoch.number for epoch in history] == list(range(1, 56))
    assert trainer.best_elbo == history[-1].validation_elbo
    assert trainer.unpenalised_elbo == max(epoch.validation_elbo for epoch in history[:30])
    z = torch.randn(1000, 1)
    with torch.no_grad():
        samples = trainer.model.expand(trainer.model.decode(z))
    assert (samples[:, 0] > 0.0).float().mean() > 0.95


@pytest.mark.slow
def test_the_importance_weighted_bound_can_be_trained() -> None:
    trainer = new_trainer(replace(SCHEDULE, importance_samples=4))
    list(trainer.epochs())
    assert trainer.best_elbo > trainer.initial_elbo + 1.0


def test_products_in_bfloat16_train_with_a_likelihood_in_single_precision() -> None:
    trainer = new_trainer(replace(SCHEDULE, epochs=3))
    trainer.model.precision = torch.bfloat16
    z = torch.randn(5, 1)
    assert trainer.model.decode(z).dtype == torch.float32
    history = list(trainer.epochs())
    assert all(math.isfinite(epoch.train_objective) and not epoch.skipped_steps for epoch in history)


@pytest.mark.parametrize("scale", ["shared", "point"])
def test_points_that_are_read_as_they_are_needed_train_alike(scale: Scale) -> None:
    """In the bits of points in memory: those of hidden surfaces are needed, and of all where each has its own noise."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(300, 3, generator=generator) @ torch.randn(3, 3, generator=generator)
    schedule = Schedule(2, 100, 3e-3, 10.0, 0, 1e3, 5, hidden_share=0.25, penalty_epochs=1)

    def trained(*, in_memory: bool) -> dict[str, Tensor]:
        torch.manual_seed(7)
        sizes = Architecture(3, 3, 1, 16, 1, scale=scale, sees_missing=True)
        model = Vae.from_components(sizes, principal_components(x)).float()
        seen = model.observe(x, points=True)
        train, surfaces = (seen, None) if in_memory else (seen._replace(points=None), x)
        penalty = lambda points: points.square().sum(-1)  # noqa: E731
        trainer = Trainer(model, train, seen, schedule, penalty=penalty, surfaces=surfaces)
        list(trainer.epochs())
        return trainer.model.state_dict()

    found, expected = trained(in_memory=False), trained(in_memory=True)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_replicas_part_a_batch_without_gaps() -> None:
    parts = [Replicas(rank, 3).rows(32) for rank in range(3)]
    assert [(part.start, part.stop) for part in parts] == [(0, 10), (10, 21), (21, 32)]
    with pytest.raises(ValueError, match="a batch of 32 is too small for 40 processes"):
        Trainer(new_trainer().model, *(new_trainer()._train,) * 2, SCHEDULE, replicas=Replicas(0, 40))


@pytest.mark.slow
def test_a_compiled_objective_trains_alike() -> None:
    """Sums are rounded in another order, and SOAP enlarges differences of the smallest gradients: within 1e-2."""
    eager, compiled = (new_trainer(replace(SCHEDULE, epochs=2), compiled=flag) for flag in (False, True))
    list(eager.epochs())
    list(compiled.epochs())
    for name, value in eager.model.state_dict().items():
        torch.testing.assert_close(compiled.model.state_dict()[name], value, rtol=0.0, atol=1e-2, msg=name)
    assert compiled.best_elbo == pytest.approx(eager.best_elbo, abs=1e-2)


@pytest.mark.gpu
def test_cuda_has_the_gradients_of_the_cpu() -> None:
    """At the same weights and numbers in double precision: the generators of the devices differ, so these are given."""
    found = []
    for device in ("cpu", "cuda"):
        trainer = new_trainer()
        trainer.model.double().to(device)
        x = Observations(*(part if part is None else part.double().to(device) for part in trainer._train.at(slice(32))))
        noise = torch.randn(1, 32, 1, generator=torch.Generator().manual_seed(1)).double().to(device)
        weights = torch.ones(1, dtype=torch.float64, device=device)
        objective(trainer.model, x, noise, weights).mean().backward()
        found.append(
            {name: value.grad.cpu() for name, value in trainer.model.named_parameters() if value.grad is not None}
        )
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


class Replayed:
    """Stands for a recording where there is no GPU: later calls use the memory of the gradients of the fourth one."""

    trainer: Trainer

    def __init__(self, function: Callable[..., Sequence[Tensor]]) -> None:
        self.function, self.calls = function, 0
        self.gradients: list[Tensor | None] = []

    def __call__(self, *arguments: Tensor) -> Sequence[Tensor]:
        self.calls += 1
        parameters = list(self.trainer.model.parameters())
        for parameter, gradient in zip(parameters, self.gradients, strict=bool(self.gradients)):
            parameter.grad = gradient
        results = self.function(*arguments)
        if self.calls == 4:
            self.gradients = [parameter.grad for parameter in parameters]
        for parameter, gradient in zip(parameters, self.gradients, strict=bool(self.gradients)):
            if gradient is not None:
                parameter.grad = gradient.copy_(parameter.grad)
        return results


@pytest.mark.slow
@pytest.mark.parametrize("parts", PARTS)
def test_what_is_recorded_reads_the_gradients_of_its_step(
    monkeypatch: pytest.MonkeyPatch, parts: dict[str, Any]
) -> None:
    """In each part of a training, and in one that was stopped in each: the bits are those of steps that run anew."""
    use(monkeypatch, lambda function: function)
    whole = recorded(**parts)
    list(whole.epochs())
    use(monkeypatch, Replayed)
    for stop in (2, 9, 13):
        stopped = Replayed.trainer = recorded(**parts)
        next(epoch for epoch in stopped.epochs() if epoch.number == stop)
        resumed = Replayed.trainer = recorded(**parts)
        resumed.restore(stopped.state())
        list(resumed.epochs())
        for name, value in whole.model.state_dict().items():
            assert torch.equal(resumed.model.state_dict()[name], value), (stop, name)


def use(monkeypatch: pytest.MonkeyPatch, recording: Callable[..., object]) -> None:
    for module in (soap, training):
        monkeypatch.setattr(module, "Captured", recording)


def recorded(**parts: Any) -> Trainer:
    """A training whose steps are recorded, wherever it is."""
    trainer = folded(replace(ON_CUDA, hidden_share=0.25), 1000, **parts)
    trainer._on_one_gpu = True
    trainer._begin_part()
    return trainer


@pytest.mark.gpu
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("hidden_share", [0.0, 0.25])
def test_recorded_steps_train_as_those_that_are_not(hidden_share: float, parts: dict[str, Any]) -> None:
    """All parts of a training; rounding differs, and SOAP enlarges what differs."""
    schedule = replace(ON_CUDA, hidden_share=hidden_share)
    recorded, plain = (folded(schedule, 1000, device="cuda", **parts) for _ in range(2))
    plain._on_one_gpu = False
    plain._begin_part()
    for ours, theirs in zip(recorded.epochs(), plain.epochs(), strict=True):
        assert ours.skipped_steps == 0
        assert ours.train_objective == pytest.approx(theirs.train_objective, rel=1e-3, abs=0.05)
    assert recorded.best_elbo == pytest.approx(plain.best_elbo, rel=1e-3, abs=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("stop", [2, 9, 13])
def test_a_training_on_cuda_that_was_stopped_goes_on_with_the_same_bits(stop: int) -> None:
    """With the scaffold, without it, and among the epochs with a penalty."""
    whole, stopped, resumed = (folded(replace(ON_CUDA, hidden_share=0.25), 1000, device="cuda") for _ in range(3))
    list(whole.epochs())
    next(epoch for epoch in stopped.epochs() if epoch.number == stop)
    resumed.restore(stopped.state())
    list(resumed.epochs())
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
