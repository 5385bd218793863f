"""Completion from a previous state through a bundle, beside torch in double precision and beside the quotes alone."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.bundles import FIRST_DAY, GRID, moving_model
from vae import bundle
from vae.dynamics import kalman_filter
from vae.dynamics.kalman_filter import Belief, Known, TimeStep
from vae.dynamics.law import passed
from vae.graphs.completer import OUTPUTS, completer_graph
from vae.model import completion
from vae.model.autoencoder import Vae
from vae.model.quote_weights import QuoteInterpolator
from vae.runtime import State, SurfaceModel
from vae.sessions import Graph, SessionOptions

_NEWEST = dt.date(2020, 5, 29)  # a Friday
_QUOTES = {"tenor": np.array([0.1, 0.3, 0.5]), "log_moneyness": np.array([-0.05, 0.02, 0.1])}
_CORNER = -0.2 * 0.1**0.5  # of the grid, at its first tenor
_VOLS = np.array([0.21, 0.172, 0.181])  # within two percent of those of the newest state

pytestmark = pytest.mark.slow  # the bundle is exported


@pytest.fixture(scope="module")
def model(moving_bundle: Path) -> SurfaceModel:
    return SurfaceModel.load(moving_bundle, provider="cpu", threads=1)


def test_a_surface_from_the_past_and_quotes_is_that_of_torch(model: SurfaceModel) -> None:
    vae, motion = moving_model(with_return=True)
    columns = (torch.from_numpy(part) for part in (_QUOTES["log_moneyness"], _QUOTES["tenor"], _VOLS, np.ones(3)))
    with torch.no_grad():
        problem, start, weights = completion.prepare_quotes(
            vae, QuoteInterpolator(GRID).double(), completion.Quotes(*columns)
        )
        posterior = completion.posterior_given_quotes(vae, problem)
        end = completion.posterior_mode(posterior, start, steps=completion.MOST_STEPS)
        at = completion.end_at_quotes(vae, problem, end)
        alone = Belief(*(part[0].numpy() for part in completion.belief_at(vae, *at)))
    noise = float(vae.scale.detach().square())
    per_tenor = (weights.spline / problem.tenor).mT.numpy()
    quotes = kalman_filter.LogQuotes(np.log(_VOLS), problem.precision.diagonal[0].numpy(), per_tenor)
    week = passed(np.array([motion.date, motion.date + 3]))[0]
    known = Known(motion.state, noise * np.eye(8))
    center, basis = vae.center.numpy(), vae.basis.numpy()
    after = kalman_filter.filtered(motion.law, known, TimeStep(week, 1.0), quotes, center).known
    mean, covariance = kalman_filter.intersection(Belief(after.state.coordinates, after.covariance), alone, noise)
    vols = np.exp(center + basis @ mean)

    found = model.complete(_VOLS, **_QUOTES, weight=1.0, previous=model.state)
    np.testing.assert_allclose(found.iv.ravel(), vols, rtol=2e-4)
    assert found.warning is None
    variance = np.square(vols) * (np.diag(basis @ covariance @ basis.T) + noise)
    np.testing.assert_allclose(found.std.ravel(), np.sqrt(variance), rtol=2e-3)
    assert found.state is not None
    assert found.state.date == dt.date(2020, 6, 1)
    assert found.state.elapsed == 0.0
    np.testing.assert_allclose(found.state.filtered, after.state.coordinates, atol=2e-4)
    np.testing.assert_allclose(found.state.variances, after.state.variances, rtol=1e-2)
    np.testing.assert_allclose(found.state.iv, found.iv)
    read = np.exp(0.5 * np.log(per_tenor @ found.iv.ravel() ** 2))
    np.testing.assert_allclose(found.fitted, read, rtol=1e-5)


def test_the_past_makes_surfaces_surer_and_whole_surfaces_need_no_quotes_to_be_kept(model: SurfaceModel) -> None:
    state = model.state
    alone = model.complete([float(state.iv[0, 0])], tenor=0.1, log_moneyness=_CORNER)
    quotes = {"tenor": 0.1, "log_moneyness": _CORNER, "previous": state}
    found = model.complete([float(state.iv[0, 0])], **quotes)
    assert alone.state is None
    assert (found.std < alone.std).all()
    np.testing.assert_allclose(found.iv, state.iv, rtol=0.02)
    later = model.complete([float(state.iv[0, 0])], **quotes, elapsed=30.0)
    assert (later.std > found.std).all()
    ages = model.complete([float(state.iv[0, 0])], **quotes, elapsed=1000.0)
    np.testing.assert_allclose(ages.iv, alone.iv, rtol=1e-3)  # the past says nothing any more


def test_memory_does_not_change_what_quotes_alone_say(model: SurfaceModel, moving_bundle: Path) -> None:
    """The outputs that a law needs leave the others as they are, bit for bit."""
    vae = moving_model(with_return=True)[0]
    single = Vae(vae.architecture)
    single.load_state_dict(vae.state_dict())
    plain = completer_graph(single.eval(), GRID, {"volvae_version": "1"})
    shapes: dict[str, tuple[int, ...]] = {"surface": (4,), "std": (4,)}
    inputs = ("log_moneyness", "tenor", "iv", "weight")
    outputs = (*OUTPUTS, "used")
    names = {name: shapes.get(name, ()) for name in outputs}
    graph = Graph("completer.onnx", plain, SessionOptions("cpu", 1), inputs=dict.fromkeys(inputs, ()), outputs=names)
    columns = (_QUOTES["log_moneyness"], _QUOTES["tenor"], _VOLS, np.ones(3))
    feeds = {name: column.astype(np.float32) for name, column in zip(inputs, columns, strict=True)}
    for one, other in zip(graph.run(feeds, outputs), model._graphs[bundle.COMPLETER].run(feeds, outputs), strict=True):
        np.testing.assert_array_equal(one, other)


def test_parts_of_a_day_add_up_to_a_day(model: SurfaceModel) -> None:
    state = model.state
    for _ in range(10):
        found = model.complete(_VOLS, **_QUOTES, previous=state, elapsed=0.1).state
        assert found is not None
        assert found.date == (_NEWEST if found.elapsed else dt.date(2020, 6, 1))
        state = found
    assert state.elapsed == 0.0
    assert state.date == dt.date(2020, 6, 1)


def test_a_return_that_is_known_counts(model: SurfaceModel) -> None:
    known, unknown = (model.complete(_VOLS, **_QUOTES, previous=model.state, log_return=one) for one in (-0.05, None))
    assert known.state is not None
    assert unknown.state is not None
    assert known.state.recent[-1] == pytest.approx(0.4 * (model.state.recent[-1] - 0.05), rel=1e-4)
    assert known.state.variances[0, -1] > unknown.state.variances[0, -1]


def test_wild_quotes_are_left_out_and_quotes_that_the_past_explains_are_not(model: SurfaceModel) -> None:
    k, tenor = (part.ravel() for part in np.meshgrid(np.linspace(-0.15, 0.15, 6), np.linspace(0.1, 0.5, 4)))
    k = k * np.sqrt(tenor)
    state = model.state
    whole = model.complete([0.2], tenor=0.1, log_moneyness=0.0, previous=state).iv
    whole = np.broadcast_to(whole.mean(), len(k)).copy()
    whole[7] = 0.4
    found = model.complete(whole, tenor=tenor, log_moneyness=k, previous=state)
    assert found.wild.tolist() == [place == 7 for place in range(24)]
    assert found.warning is not None
    assert found.warning.startswith("the model fits all quotes but the wild ones, which are left out: ")
    assert "misses" not in found.warning
    assert abs(found.fitted[7] - 0.2) < 0.03


def test_a_state_survives_json(model: SurfaceModel) -> None:
    state = model.complete(_VOLS, **_QUOTES, previous=model.state, elapsed=0.25).state
    assert state is not None
    again = model.state_of_plain(json.loads(json.dumps(model.state_to_plain(state))))
    for one, other in zip(state, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [np.asarray(part).dtype for part in again] == [np.asarray(part).dtype for part in state]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "0" * 64}, "the state is of another model"),
        ({"date": "yesterday"}, "date of the state is 'yesterday'; it must be as 2026-01-31"),
        ({"date": None}, "date of the state is 'None'"),
        ({"elapsed": 1.0}, "elapsed of the state is 1.0; it must be from 0 to below 1"),
        ({"elapsed": "0"}, "elapsed of the state is 0; it must be"),
        ({"elapsed": True}, "elapsed of the state is True; it must be"),
        ({"filtered": [0.0] * 7}, r"filtered of the state must be finite numbers \[8\], not \[7\]"),
        ({"filtered": [float("nan")] * 8}, r"filtered of the state must be finite numbers \[8\], all of them"),
        ({"coordinates": [1e300] * 8}, "coordinates of the state must be finite"),
        ({"recent": None}, "recent of the state must be finite"),
        ({"recent": [[0.0], 1.0]}, "recent of the state must be finite"),
        ({"iv": [[0.0] * 4] * 2}, "its iv must be above 0"),
        ({"covariance": (-np.eye(8)).tolist()}, "covariance of the state is no covariance"),
        ({"other": 1}, "the state must have model, date, elapsed"),
    ],
)
def test_what_is_no_state_is_refused(model: SurfaceModel, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.state_of_plain(model.state_to_plain(model.state) | change)


def test_a_state_of_an_earlier_version_is_refused_with_what_to_start_from(model: SurfaceModel) -> None:
    plain = model.state_to_plain(model.state)
    del plain["moved"]  # which earlier versions did not have
    with pytest.raises(ValueError, match="one of an earlier version of volvae cannot be read: start anew"):
        model.state_of_plain(plain)


def test_what_cannot_be_completed_from_a_state_is_refused(model: SurfaceModel, linear_bundle: Path) -> None:
    for wrong, message in (
        ({"elapsed": 0.0}, "elapsed is 0.0; allowed: 1e-06 to 1000 working days since the state of 2020-05-29"),
        ({"elapsed": 1001.0}, "elapsed is 1001.0; allowed"),
        ({"elapsed": float("nan")}, "elapsed is nan; allowed"),
        ({"log_return": float("inf")}, r"log_return is inf; allowed: -1 to 1, such as"),
        ({"log_return": -2.0}, r"log_return is -2; allowed: -1 to 1, such as log\(0\.95\) for a fall of 5 %"),
    ):
        with pytest.raises(ValueError, match=message):
            model.complete(_VOLS, **_QUOTES, previous=model.state, **wrong)
    for log_return in (float("nan"), float("inf"), -2.0):
        with pytest.raises(ValueError, match=rf"log_return is {log_return:g}; allowed: -1 to 1, such as log"):
            model.next_state(model.state.iv, model.state.date + dt.timedelta(3), log_return=log_return)
    static = SurfaceModel.load(linear_bundle, provider="cpu")
    with pytest.raises(ValueError, match=r"no law of motion; .* where train\.dynamics is set"):
        static.complete(_VOLS, **_QUOTES, previous=model.state)
    with pytest.raises(ValueError, match="no law of motion"):
        static.state_of_plain({})


def test_a_whole_surface_starts_a_state_that_is_certain(model: SurfaceModel) -> None:
    state = model.next_state(model.state.iv, dt.date(2020, 6, 1), log_return=0.0)
    assert isinstance(state, State)
    np.testing.assert_array_equal(state.filtered, state.coordinates)
    np.testing.assert_array_equal(state.covariance, model.state.covariance)
    assert (model.state.date - dt.date(1970, 1, 1)).days == FIRST_DAY + 149


def test_intervals_hold_what_neither_model_nor_past_explains(root: Path) -> None:
    """A smile far outside of one simulated path: the past must not make its surface surer than its quotes allow."""
    model = SurfaceModel.load(root / "examples/dated", provider="cpu", threads=1)
    k, tenor = np.tile(np.linspace(-0.1, 0.1, 9), 2), np.repeat([0.1, 0.3], 9)
    iv = 0.2 - 0.4 * k + 3.0 * k**2
    for weight in (None, 1.0):  # the noise is estimated, or known
        found = model.complete(iv, tenor=tenor, log_moneyness=k, weight=weight, previous=model.state)
        assert found.warning
        rows = found.used & ~found.wild
        error = np.abs(found.fitted - iv)[rows]
        assert error.max() > 10.0 * found.fitted_std[rows].max(), "else the surface has learned the smile"
        assert (error <= 1.645 * found.std.min()).mean() > 0.8


@pytest.mark.parametrize("size", [0.05, 0.1, 0.3])
def test_the_noise_that_is_stated_is_of_the_surface_that_is_returned(root: Path, size: float) -> None:
    """Vols that all rise are no surface of one simulated path; yesterday's leads to one that is nearer to them."""
    model = SurfaceModel.load(root / "examples/dated", provider="cpu", threads=1)
    place = ([0, 3, 5], [3, 4, 5])
    quotes = {"tenor": model.grid.tenors[place[0]], "log_moneyness": model.grid.log_moneyness[place]}
    iv = model.state.iv[place] * (1.0 + size)
    alone, found = (model.complete(iv, **quotes, previous=previous) for previous in (None, model.state))
    assert alone.cause == found.cause == "unknown"
    assert found.noise == pytest.approx(np.sqrt(np.square(found.fitted - iv).mean()), rel=0.1)
    assert alone.noise > 3.0 * found.noise
    assert alone.warning is not None
    assert "previous state" not in alone.warning
    assert found.warning is not None
    assert f"without the previous state their errors are about {1e4 * alone.noise:.1f} bp" in found.warning
    assert "; from the previous state the surface misses the quotes by" in found.warning


@pytest.mark.parametrize("weight", [None, 1.0])
def test_a_state_is_as_unsure_as_the_intervals_of_quotes_that_do_not_fit(root: Path, weight: float | None) -> None:
    """And no state follows from quotes that the surface misses by more than a day moves it."""
    model = SurfaceModel.load(root / "examples/dated", provider="cpu", threads=1)
    basis, tenors = np.array(model.manifest["dynamics"]["law"]["basis"]), model.grid.tenors[:, None]
    quotes = {
        "tenor": np.broadcast_to(tenors, model.grid.shape).ravel(),
        "log_moneyness": model.grid.log_moneyness.ravel(),
    }
    wave = np.sin(8.0 * model.grid.nodes) * np.ones_like(tenors)
    slightly, widely = (
        model.complete((model.state.iv * np.exp(size * wave)).ravel(), **quotes, weight=weight, previous=model.state)
        for size in (0.02, 0.3)
    )
    assert slightly.outside
    assert slightly.warning is not None
    assert slightly.warning.endswith("beyond their noise, and intervals and the state that goes on are wider by that")
    assert slightly.state is not None
    for covariance in (slightly.state.covariance, slightly.state.spread @ slightly.state.spread):
        found = np.sqrt(np.einsum("pr,rs,ps->p", basis, covariance, basis).mean())
        shown = np.sqrt(np.square(slightly.std / slightly.iv).mean())
        assert found == pytest.approx(shown, rel=0.1)
        assert found > 0.01
    assert model.scenarios(slightly.state, n=200, seed=1).iv[:, 0].std(axis=0).min() > 0.0
    assert widely.state is None
    assert widely.warning is not None
    assert widely.warning.endswith(
        "bp beyond their noise, and intervals are wider by that; a day moves the surface by less, so no new state "
        "follows, and the previous one stays the newest"
    )
