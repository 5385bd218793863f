"""Device code on a fake device, where a tensor that was left on the CPU is an error.

Run by test_fake_cuda.py in a process of its own, for the sake of the device that is registered.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily

from tests.fake_device import fake_tensors, register_device
from vae.evaluation import exact_likelihood, metrics
from vae.graphs import completer, export, scorer
from vae.graphs.search import MODE
from vae.model import completion
from vae.model.arbitrage_penalty import ArbitragePenalty
from vae.model.autoencoder import Architecture, Vae
from vae.model.elbo import Bounds
from vae.model.laplace import SearchState
from vae.model.linear import PrincipalComponents, principal_components
from vae.model.mixture import Mixture
from vae.model.quote_weights import QuoteInterpolator
from vae.pricing import black, heston
from vae.pricing.complex_pairs import Pair
from vae.surface.grid import Grid
from vae.training.schedule import Schedule
from vae.training.trainer import Trainer

DEVICE = register_device()
GRID = Grid(np.array([0.1, 0.5, 1.0]), np.linspace(-0.3, 0.3, 5))
SCHEDULE = Schedule(
    epochs=2,
    batch=16,
    learning_rate=1e-3,
    scale_rate=10.0,
    warmup_steps=2,
    gradient_clip=1e3,
    seed=1,
    scaffold_latents=2,
    beta_warmup_epochs=1,
    importance_samples=3,
    hidden_share=0.5,
    weight_decay=0.1,
    penalty_epochs=1,
    penalty_samples=8,
)
VARIANTS = [("none", "shared"), ("log", "point")]


def penalty_of(scale: Tensor) -> Callable[[Tensor], Tensor]:
    measure = ArbitragePenalty(GRID).to(DEVICE)
    return lambda points: measure((scale * points).unflatten(-1, GRID.shape))


def new_trainer(scale: str, penalty: Callable[[Tensor], Tensor]) -> Trainer:
    """A model with a scaffold, on the device; call under fake tensors."""
    start, model = (linear_model("none", scale, latents=latents)[0].float().to(DEVICE) for latents in (2, 4))
    data = start.observe(torch.ones(40, 15, device=DEVICE), points=True, missing=True)
    assert_on_device(*data)
    return Trainer(model, data, data, SCHEDULE, start=start, penalty=penalty)


@pytest.mark.parametrize("scale", ["shared", "point"])
def test_training_leaves_no_tensor_on_the_cpu(scale: str) -> None:
    """Scaffold, masked points, importance samples, penalty and SOAP; a checkpoint goes to the CPU and comes back."""
    with fake_tensors():
        trainer = new_trainer(scale, penalty_of(torch.ones(15, device=DEVICE)))
        epochs = trainer.epochs()
        next(epochs)
        next(epochs)  # two epochs with the scaffold
        saved = {name: value.cpu() for name, value in trainer.state().items()}
        trainer.restore(saved)
        trainer.next_epoch = SCHEDULE.epochs  # as restored it is a fixed number
        (penalised,) = trainer.epochs()  # drops the scaffold first
        assert penalised.number == 3
        assert trainer.model.architecture.latents == 2
        state = trainer.state()
    assert {value.device.type for value in saved.values()} == {"cpu"}
    held = {name: value for name, value in state.items() if name.startswith(("model.", "best.", "optimizer."))}
    steps = [value for name, value in held.items() if name.endswith(".step")]
    assert {value.device.type for value in steps} == {"cpu"}  # Python reads them at each step
    assert_on_device(*(value for name, value in held.items() if not name.endswith(".step")))


def test_a_tensor_left_on_the_cpu_ends_training() -> None:
    with fake_tensors():
        trainer = new_trainer("shared", penalty_of(torch.ones(15)))
        trainer.next_epoch = SCHEDULE.epochs
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            list(trainer.epochs())


def linear_model(transform: str, scale: str, latents: int = 2) -> tuple[Vae, PrincipalComponents]:
    """With numbers: what a model starts from is computed on the CPU."""
    architecture = Architecture(15, 10, latents, 8, 1, transform=transform, scale=scale, sees_missing=True)  # type: ignore[arg-type]
    with unset_fake_temporarily():
        x = 0.2 + 0.02 * torch.randn(60, 15, dtype=torch.float64)
        components = principal_components(x.log() if transform == "log" else x)
        return Vae.from_components(architecture, components), components


def on_device(parts: PrincipalComponents) -> PrincipalComponents:
    return PrincipalComponents(*(torch.empty_like(part, device=DEVICE) for part in parts))


def assert_on_device(*tensors: Tensor | None) -> None:
    assert {tensor.device for tensor in tensors if tensor is not None} == {DEVICE}


def test_a_tensor_left_on_the_cpu_is_an_error() -> None:
    with fake_tensors(), pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        torch.ones(3, device=DEVICE) + torch.ones(3)


def test_bounds_and_completions_are_evaluated_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gain of the fitted prior is taken on the CPU, by numpy, which fake tensors have no numbers for."""
    monkeypatch.setattr(Bounds, "prior_gain", lambda self, prior: self.elbo.value)
    monkeypatch.setattr(completion, "MOST_STEPS", 2)
    model, components = linear_model("none", "shared")
    with fake_tensors():
        x, model, components = (
            torch.ones(8, 15, device=DEVICE, dtype=torch.float64),
            model.to(DEVICE),
            on_device(components),
        )
        prior, exact = Mixture.standard_normal(2), torch.ones(8, device=DEVICE, dtype=torch.float64)
        bounds = metrics.likelihood_metrics(model, x, samples=[1, 4], seed=1, prior=prior, exact=exact)
        completions = metrics.completion_metrics(model, components, x, known=[3], seed=1)
        assert {"iwae_4_nats", "elbo_gap_to_oracle_nats"} <= set(bounds)
        assert "interval_coverage_90_3" in completions
        assert metrics.pca_likelihood_metrics(components, x, latents=2)
        assert_on_device(
            exact_likelihood.log_likelihood(
                torch.ones(8, 15, 5, device=DEVICE), torch.ones(8, 15, device=DEVICE), scale=1e-4, log_volume=0.0
            )
        )


@pytest.mark.parametrize(("transform", "scale"), VARIANTS)
def test_graphs_are_evaluated_on_the_device(transform: str, scale: str) -> None:
    """The modules that export traces; the sampler's graph is written in ONNX and decodes with the decoder."""
    model, _ = linear_model(transform, scale)
    with fake_tensors(), torch.no_grad():
        model = model.to(DEVICE)
        iv, mask = (
            torch.ones(4, *GRID.shape, device=DEVICE).double(),
            torch.ones(4, *GRID.shape, device=DEVICE).double(),
        )
        z = torch.ones(4, 2, device=DEVICE).double()
        assert_on_device(
            export.Decoder(model, GRID.shape)(z), *export.Encoder(model)(iv, mask), *scorer.scored(model, iv, mask)
        )
        quotes = [torch.ones(6, device=DEVICE).double() for _ in range(4)]
        quoted, weights, reading, precision, used, *state = completer.Start(model, GRID)(*quotes)
        assert_on_device(quoted, weights, reading, precision, used, *state)
        posed = (quotes[1], quoted, weights, reading, precision)
        moving, *state = completer.quote_step(model)(*posed, *state)
        kept = [SearchState(*state)._asdict()[name] for name in MODE]
        assert_on_device(moving, *state, *completer.End(model, GRID)(*posed, *kept))
        assert_on_device(export.HalfDecoder(model, GRID.shape)(z))


def test_quotes_are_interpolated_on_the_device() -> None:
    with fake_tensors():
        for grid in (GRID, Grid(GRID.tenors, np.linspace(0.1, 0.9, 5), "delta")):
            quotes = [torch.ones(6, device=DEVICE, dtype=torch.float64) for _ in range(3)]
            assert_on_device(*QuoteInterpolator(grid).to(DEVICE)(*quotes))


def test_prices_are_made_on_the_device() -> None:
    """The parts of a price; how many of them are added up follows from numbers, which a fake device has not."""
    with fake_tensors(), torch.no_grad():
        one = torch.ones(4, device=DEVICE, dtype=torch.float64)
        model = heston.Heston.of(torch.ones(4, 5, device=DEVICE, dtype=torch.float64))
        nodes = Pair(*torch.ones(2, 9, 4, device=DEVICE, dtype=torch.float64))
        assert_on_device(*heston.log_characteristic_function(model, one, nodes))
        coefficients = black.coefficients(DEVICE)
        for wide in (False, True):
            assert_on_device(*black.log_price_kernel(one, one, coefficients, wide=wide))
            assert_on_device(*black.advance(one, one, one, one, one, coefficients, wide=wide))
