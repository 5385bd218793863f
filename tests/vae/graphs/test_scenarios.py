"""The graph of a step against the law in double precision: drawn, and observed, with and without a return."""

from functools import cache
from typing import NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch

from vae.dynamics import law as motion
from vae.dynamics.fit import History, Walk, walk
from vae.dynamics.law import FORMS, LawState
from vae.graphs.scenarios import OUTPUTS, scenarios_graph
from vae.model.autoencoder import Architecture, Vae
from vae.model.linear import principal_components
from vae.surface import arbitrage
from vae.surface.grid import Grid

_DATES, _POINTS, _RANK = 150, 6, 4
_GRID = Grid([0.25, 1.0], [-0.1, 0.0, 0.1])


class Case(NamedTuple):
    """A model, surfaces [date, D], the law of their history, and the graph."""

    model: Vae
    x: torch.Tensor
    walked: Walk
    content: bytes


@cache
def case(form: str, *, with_price: bool) -> Case:
    """A random walk of surfaces, and perhaps of a price; without one deviations follow the level."""
    random = np.random.default_rng(0)
    x = torch.from_numpy(0.2 * np.exp(np.cumsum(0.02 * random.standard_normal((_DATES, _POINTS)), axis=0)))
    architecture = Architecture(_POINTS, _RANK, 2, 8, 1, transform="log", residual_factors=_RANK)
    model = Vae.from_components(architecture, principal_components(x.log()))
    price = np.cumsum(0.01 * random.standard_normal(_DATES)) if with_price else None
    history = History(model.observe(x).values.numpy(), np.arange(_DATES), model.basis.numpy(), price)
    walked = walk(
        history, FORMS[form], None if with_price else np.linspace(-1.0, 2.0, _RANK * _POINTS).reshape(_RANK, -1)
    )
    single = Vae(architecture)
    single.load_state_dict(model.state_dict())
    content = scenarios_graph(single, walked.law(), _GRID, {"volvae_version": "1"})
    return Case(model, x, walked, content)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "with_price"), [("reverting", True), ("filtered_historical", False)])
def test_a_step_of_the_graph_is_that_of_the_law(form: str, *, with_price: bool) -> None:
    model, x, walked, content = case(form, with_price=with_price)
    coordinates = walked.states.coordinates
    law, week = walked.law(), np.array([1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    state = LawState(*(part[-5:] for part in walked.states))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    feeds = {
        "key": np.array([7], np.uint64),
        "offset": np.array([3]),
        "count": np.array([5]),
        **{name: part.astype(np.float32) for name, part in state._asdict().items()},
        "week": week.astype(np.float32),
        "surface": x[9].reshape(2, 3).float().numpy(),
        "surface_return": np.array([0.013], np.float32),
    }
    mean, spread = motion.forecast(law, state, week)

    iv, log_return, *after, shocks = session.run(OUTPUTS, feeds | {"observed": np.array([False])})
    own = law.shocks[shocks]
    _check(law, state, week, mean + motion.to_coordinates(law.basis, spread * own), iv, log_return, after, model)

    iv, log_return, *after, _ = session.run(OUTPUTS, feeds | {"observed": np.array([True])})
    move = coordinates[9] - state.coordinates
    moves = np.concatenate([move, np.full((5, 1), 0.013)], axis=1) if with_price else move
    _check(law, state, week, moves, iv, log_return, after, model)


@pytest.mark.slow
def test_scenarios_have_the_law_given_that_there_is_no_static_arbitrage() -> None:
    """Each shock is drawn as often as it is among those that lead to such a surface, and other ones never."""
    model, x, walked, content = case("reverting", with_price=True)
    law, count, week = walked.law(), 20_000, np.zeros(7)
    near = torch.tensor([[0.2, 0.2, 0.2, 0.174, 0.174, 0.174]], dtype=torch.float64)  # in the basis, to arbitrage
    state = walked.state()._replace(coordinates=model.observe(near).values[0].numpy())
    every = motion.scenarios(law, state, [week], np.arange(len(law.shocks))[:, None]).coordinates[:, 0]
    with torch.no_grad():
        iv = model.expand(torch.from_numpy(every)).reshape(-1, *_GRID.shape)
    free = arbitrage.violations(iv.numpy(), _GRID).profit <= 1e-6
    assert 0.1 < free.mean() < 0.9
    feeds = {name: np.repeat(part[None], count, axis=0).astype(np.float32) for name, part in state._asdict().items()}
    feeds |= {"key": np.array([7], np.uint64), "offset": np.array([0]), "count": np.array([count])}
    feeds |= {"week": week.astype(np.float32), "surface": x[9].reshape(2, 3).float().numpy()}
    feeds |= {"surface_return": np.zeros(1, np.float32), "observed": np.array([False])}
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    places = session.run(["shocks"], feeds)[0]
    expected = free * motion.shares(len(free), float(law.ageing[0]))
    expected /= expected.sum()
    drawn = np.bincount(places, minlength=len(free)) / count
    assert (drawn[~free] == 0.0).all()
    np.testing.assert_allclose(drawn, expected, atol=4.5 * np.sqrt(expected.max() / count))


def _check(law, state, week, move, iv, log_return, after, model) -> None:  # type: ignore[no-untyped-def]
    """The outputs are those of the law after a move [5, C]."""
    expected = motion.advanced(law, state, week, move)
    for found, part in zip(after, expected, strict=True):
        np.testing.assert_allclose(found, part, rtol=1e-4, atol=1e-5)
    surfaces = model.expand(torch.from_numpy(expected.coordinates)).reshape(-1, 2, 3)
    np.testing.assert_allclose(iv, surfaces.numpy(), rtol=1e-5)
    np.testing.assert_allclose(log_return, move[:, _RANK:].sum(axis=1), atol=1e-6)
