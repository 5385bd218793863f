"""The random numbers of sampler.onnx against integers of any size, and its draws against vae.model.mixture."""

import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy import stats

from vae.bundle import Layout
from vae.graphs.sampler import KEYS, MixtureDraws, Sampler, sampler_graph, words
from vae.model.autoencoder import Architecture, Vae
from vae.model.flow import Flow, FlowShape
from vae.model.linear import principal_components
from vae.model.mixture import Mixture
from vae.surface.grid import Grid

GRID = Grid(np.array([0.1, 0.5]), np.linspace(-0.2, 0.2, 4))
LATENTS, MASK = 3, 2**64 - 1


def squares(counter: int, key: int) -> int:
    """Widynski (2022), listing 2, in integers that do not wrap."""
    x = y = counter * key & MASK
    z = y + key & MASK
    for added in (y, z, y):
        x = x * x + added & MASK
        x = (x >> 32) | (x << 32) & MASK
    return (x * x + z & MASK) >> 32


def uniform(key: int, row: int, count: int) -> np.ndarray:
    high, low = (squares(key, first) for first in KEYS)
    own = 2 * (high << 32 | low) + 1 & MASK
    numbers = [squares(row * count + place & MASK, own) for place in range(count)]
    return np.array(numbers, np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)


def model() -> Vae:
    torch.manual_seed(0)
    x = 0.2 + 0.02 * torch.randn(300, 8, dtype=torch.float64) @ torch.randn(8, 8, dtype=torch.float64)
    return Vae.from_components(Architecture(8, 8, LATENTS, 16, 2), principal_components(x)).float()


def correlated() -> Vae:
    """A model with residual factors."""
    torch.manual_seed(0)
    x = 0.2 + 0.02 * torch.randn(300, 8, dtype=torch.float64) @ torch.randn(8, 8, dtype=torch.float64)
    return Vae.from_components(Architecture(8, 8, LATENTS, 8, 1, residual_factors=6), principal_components(x)).float()


def mixture(dimension: int, components: int) -> Mixture:
    generator = np.random.default_rng(3)
    factors = np.tril(generator.normal(size=(components, dimension, dimension)))
    factors += 2.0 * np.eye(dimension) * np.sign(np.einsum("kii->ki", factors))[:, :, None]
    factors *= np.sign(np.einsum("kii->ki", factors))[:, None, :]
    return Mixture(generator.dirichlet(np.ones(components)), generator.normal(size=(components, dimension)), factors)


def session(content: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def request(
    key: int, offset: int, count: int, *, temperature: float = 1.0, standard: bool = False
) -> dict[str, np.ndarray]:
    numbers = {"key": np.array([key], np.uint64), "offset": np.array([offset]), "count": np.array([count])}
    return numbers | {"temperature": np.array([temperature], np.float32), "standard_normal": np.array([standard])}


@pytest.fixture(scope="module")
def graph() -> bytes:
    return sampler_graph(model(), mixture(LATENTS, 4), 0, Layout.of_surfaces(GRID.shape), {"volvae_version": "1"})


@pytest.fixture(scope="module")
def conditioned() -> bytes:
    return sampler_graph(model(), mixture(2 + LATENTS, 4), 2, Layout.of_surfaces(GRID.shape), {"volvae_version": "1"})


def uniform_of(graph: bytes, key: int, offset: int, count: int) -> np.ndarray:
    """The random numbers that the graph draws inside."""
    whole = onnx.load_from_string(graph)
    inside = onnx.helper.make_tensor_value_info("uniform", onnx.TensorProto.FLOAT, [None, words(LATENTS)])
    whole.graph.output.append(inside)
    return np.asarray(session(whole.SerializeToString()).run(["uniform"], request(key, offset, count))[0])


@pytest.mark.parametrize("key", [0, 1, 7, 2**32, 2**63, 2**64 - 1])
@pytest.mark.parametrize("offset", [0, 12_345, 2**50 - 5])
def test_uniform_numbers_are_squares_to_the_last_bit(graph: bytes, key: int, offset: int) -> None:
    count = words(LATENTS)
    expected = np.stack([uniform(key, offset + row, count) for row in range(5)])
    np.testing.assert_array_equal(uniform_of(graph, key, offset, 5), expected)


def test_uniform_numbers_are_uniform_and_independent(graph: bytes) -> None:
    """Kolmogorov and Smirnov's test of each place, and correlations between places, rows and neighbouring keys."""
    numbers = uniform_of(graph, 11, 0, 50_000)
    assert 0.0 < numbers.min() < numbers.max() <= 1.0
    for column in numbers.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    others = np.concatenate([numbers[1:].T, uniform_of(graph, 12, 0, 50_000)[:-1].T])
    correlation = np.corrcoef(np.concatenate([numbers[:-1].T, others]))
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / math.sqrt(50_000)


def draws(key: int, count: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The uniform number and the normal ones of each row times the temperature, in double precision."""
    numbers = np.stack([uniform(key, row, words(LATENTS)) for row in range(count)]).astype(float)
    half = (words(LATENTS) - 1) // 2
    radius = np.sqrt(-2.0 * np.log(numbers[:, 1 : 1 + half]))
    angle = 2.0 * math.pi * numbers[:, 1 + half :]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :LATENTS]
    return numbers[:, 0], temperature * normal


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_draws_are_those_of_the_mixture(graph: bytes, temperature: float) -> None:
    mix = mixture(LATENTS, 4)
    iv, z = session(graph).run(["iv", "z"], request(5, 0, 300, temperature=temperature))
    np.testing.assert_allclose(z, mix.sample(*draws(5, 300, temperature)), atol=2e-5)
    with torch.no_grad():
        expected = model().expand(model().decode(torch.from_numpy(z))).numpy()
    np.testing.assert_allclose(iv.reshape(300, 8), expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_are_those_of_the_flow(temperature: float) -> None:
    torch.manual_seed(1)
    flow = Flow.of_codes(torch.randn(100, LATENTS) + 1.0, FlowShape(LATENTS, 2)).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    content = sampler_graph(model(), flow, 0, Layout.of_surfaces(GRID.shape), {"volvae_version": "1"})
    z = session(content).run(["z"], request(5, 0, 300, temperature=temperature))[0]
    np.testing.assert_allclose(z, flow.sample(*draws(5, 300, temperature)), atol=1e-4)


@pytest.mark.slow
def test_draws_of_n01_are_the_normal_numbers(graph: bytes, conditioned: bytes) -> None:
    """Of N(0, I), whatever law was fitted; at most temperatures too, but a hot one moves no long vector."""
    normal = draws(5, 300, 1.0)[1]
    free = {"conditions": np.full(2, np.nan, np.float32)}
    for content, more in ((graph, {}), (conditioned, free)):
        z = session(content).run(["z"], request(5, 0, 300, standard=True) | more)[0]
        np.testing.assert_allclose(z, normal, atol=1e-5)
    hot = session(graph).run(["z"], request(5, 0, 300, temperature=50.0, standard=True))[0]
    length, before = np.linalg.norm(hot, axis=1), np.linalg.norm(normal, axis=1)
    np.testing.assert_allclose(length, np.maximum(before, np.minimum(50.0 * before, 3.2)), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [(0.3, -0.2), (math.nan, 0.5), (0.1, math.nan), (math.nan, math.nan)])
def test_draws_given_conditions_are_those_of_the_mixture(conditioned: bytes, asked: tuple[float, float]) -> None:
    """Some of the conditions, all or none: the law of z given them, which vae.model.mixture has in another way."""
    known = [i for i, value in enumerate(asked) if not math.isnan(value)]
    law = mixture(2 + LATENTS, 4).select([*known, *range(2, 2 + LATENTS)])
    feeds = request(5, 0, 300) | {"conditions": np.array(asked, np.float32)}

    z = session(conditioned).run(["z"], feeds)[0]

    given = np.broadcast_to(np.array(asked, np.float32)[known].astype(float), (300, len(known)))
    chosen, normal = draws(5, 300, 1.0)
    expected = law.sample_given(given, chosen, normal) if known else law.sample(chosen, normal)
    np.testing.assert_allclose(z, expected, atol=5e-5)


MARKET = np.array([1, 0, 2, 1, 0])  # of each component


@pytest.fixture(scope="module")
def of_markets() -> bytes:
    return sampler_graph(
        model(), mixture(1 + LATENTS, 5), 1, Layout.of_surfaces(GRID.shape), {"volvae_version": "1"}, market=MARKET
    )


@pytest.mark.slow
@pytest.mark.parametrize("market", [0, 1, 2, -1])
@pytest.mark.parametrize("asked", [0.3, math.nan])
def test_draws_given_a_market_are_those_of_its_components(of_markets: bytes, market: int, asked: float) -> None:
    """Alone and beside another condition; -1 leaves the market free."""
    law = mixture(1 + LATENTS, 5)
    law = law if market == -1 else law.part(market == MARKET)
    conditions = {"conditions": np.array([asked], np.float32), "market": np.array([market])}
    z = session(of_markets).run(["z"], request(5, 0, 300) | conditions)[0]

    free = law.select(range(1, 1 + LATENTS))
    chosen, normal = draws(5, 300, 1.0)
    given = np.full((300, 1), np.float32(asked), float)
    expected = free.sample(chosen, normal) if math.isnan(asked) else law.sample_given(given, chosen, normal)
    np.testing.assert_allclose(z, expected, atol=5e-5)


@pytest.mark.parametrize("market", [0, 1, 2, -1])
def test_no_uniform_number_reaches_another_market(market: int) -> None:
    """The smallest and the largest one that the graph draws, at temperature 0: the mean of a component."""
    law = mixture(LATENTS, 5)
    sampler = Sampler(model(), MixtureDraws(law, 0, MARKET), GRID.shape).float()
    uniform = torch.full((2, words(LATENTS)), 0.5)
    uniform[:, 0] = torch.tensor([2.0**-33, 1.0])
    with torch.no_grad():
        _, z = sampler(uniform, torch.zeros(1), torch.tensor([False]), None, torch.tensor([market]))
    own = np.flatnonzero(market == MARKET) if market >= 0 else np.arange(5)
    np.testing.assert_allclose(z, law.means[own[[0, -1]]], atol=1e-6)


@pytest.mark.slow
def test_samples_of_a_model_with_residual_factors_have_the_covariance_of_the_data() -> None:
    own = correlated()
    content = sampler_graph(
        own, Mixture.standard_normal(LATENTS), 0, Layout.of_surfaces(GRID.shape), {"volvae_version": "1"}
    )
    iv, z, scores = session(content).run(None, request(3, 0, 40_000))
    assert scores.shape == (40_000, 6)
    assert np.abs(np.cov(np.hstack([z, scores]).T) - np.eye(LATENTS + 6)).max() < 0.03
    with torch.no_grad():
        values = own.with_residual(own.decode(torch.from_numpy(z)), torch.from_numpy(scores))
        np.testing.assert_allclose(iv.reshape(-1, 8), own.expand(values).numpy(), atol=1e-6)
        loadings = own.basis @ (own.unit.unsqueeze(1) * own.decoder_linear.weight)
        factors = own.residual_factors
        assert factors is not None
        expected = (loadings @ loadings.T + factors @ factors.T).numpy()
    deviation = np.sqrt(np.diag(expected))
    assert (np.abs(np.cov(iv.reshape(-1, 8).T) - expected) < 0.03 * np.outer(deviation, deviation)).all()
