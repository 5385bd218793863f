"""A bundle on CUDA gives the numbers of the CPU: every call of the runtime, for each kind of bundle."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.vectors import LIKELIHOODS, trained_on_vectors
from vae.runtime import SurfaceModel, VectorModel

pytestmark = pytest.mark.gpu

Call = Callable[[SurfaceModel], object]
QUOTES = {"iv": [0.21, 0.2, 0.19], "tenor": [0.1, 0.1, 0.5], "log_moneyness": [-0.05, 0.0, 0.02]}
CALLS: dict[str, Call] = {
    "decode, a row at a time": lambda model: [model.decode(z[None]) for z in latents(model, 5)],
    "decode, a few": lambda model: model.decode(latents(model, 7)),
    "decode, many": lambda model: model.decode(latents(model, 5000)),
    "sample": lambda model: model.sample(model.block + 100, seed=2),
    "sample with noise": lambda model: model.sample(1000, seed=2, noise=True),
    "sample of N(0, I)": lambda model: model.sample(1000, seed=2, prior="standard_normal", temperature=0.5),
    "encode": lambda model: model.encode(surfaces(model)),
    "score": lambda model: model.score(surfaces(model)),
    "complete": lambda model: model.complete(**QUOTES),
    "complete with weights": lambda model: model.complete(**QUOTES, weight=[1.0, 0.5, 0.1]),
    "complete a surface": lambda model: model.complete(np.where(np.eye(2, 4) > 0, surfaces(model)[0], np.nan)),
}
MARKETS: dict[str, Call] = {
    "sample with a condition": lambda model: model.sample(500, seed=2, conditions={"atm_level": 0.2}),
    "sample of a market": lambda model: model.sample(500, seed=2, market="EUR/USD"),
    "encode with gaps": lambda model: model.encode(np.where(np.eye(2, 4) > 0, np.nan, surfaces(model))),
    "score with gaps": lambda model: model.score(np.where(np.eye(2, 4) > 0, np.nan, surfaces(model))),
    "complete of a market": lambda model: model.complete(**QUOTES, market="EUR/USD"),
}
MOTION: dict[str, Call] = {
    "scenarios": lambda model: model.scenarios(days=5, n=300, seed=3),
    "scenarios with a return": lambda model: model.scenarios(days=5, n=300, seed=3, log_return=-0.02),
    "scenarios of a newer state": lambda model: model.scenarios(
        model.next_state(surfaces(model)[0], model.state.date + dt.timedelta(days=3), log_return=0.01), n=300, seed=3
    ),
    "complete from the past": lambda model: model.complete(**QUOTES, previous=model.state),
}


def latents(model: SurfaceModel | VectorModel, count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, model.latents)).astype(np.float32)


def surfaces(model: SurfaceModel) -> np.ndarray:
    return model.sample(300, seed=5)


def check(found: object, expected: object) -> None:
    """Arrays agree to a ten-thousandth of their largest number; so do those of tuples and lists, one by one."""
    if isinstance(expected, np.ndarray) and expected.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.nanmax(np.abs(expected), initial=0.0), rtol=0.0)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, tuple | list):
        for one, other in zip(found, expected, strict=True):  # type: ignore[call-overload]
            check(one, other)


CASES = [
    *(("linear_bundle", name) for name in CALLS),
    *(("market_bundle", name) for name in CALLS | MARKETS),
    *(("moving_bundle", name) for name in CALLS | MOTION),
]


@pytest.mark.parametrize(("bundle", "name"), CASES)
def test_surfaces_are_those_of_the_cpu(request: pytest.FixtureRequest, bundle: str, name: str) -> None:
    folder, call = request.getfixturevalue(bundle), (CALLS | MARKETS | MOTION)[name]
    cuda = SurfaceModel.load(folder, provider="cuda")
    assert cuda.provider == "CUDAExecutionProvider"
    check(call(cuda), call(SurfaceModel.load(folder, provider="cpu")))


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_vectors_are_those_of_the_cpu(root: Path, tmp_path_factory: pytest.TempPathFactory, likelihood: str) -> None:
    folder = trained_on_vectors(root, tmp_path_factory, likelihood).folder / "artifacts/bundle"
    cuda, cpu = VectorModel.load(folder, provider="cuda"), VectorModel.load(folder, provider="cpu")
    x = cpu.sample(50, seed=1, noise=True)
    gaps = np.where(np.arange(x.shape[1]) % 3 == 0, np.nan, x)
    check(cuda.sample(1000, seed=2), cpu.sample(1000, seed=2))
    check(cuda.encode(x), cpu.encode(x))
    check(cuda.score(gaps), cpu.score(gaps))
    check(cuda.complete(gaps[:10]), cpu.complete(gaps[:10]))
    for z in latents(cpu, 5):
        check(cuda.decode(z[None]), cpu.decode(z[None]))
