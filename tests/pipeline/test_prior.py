"""The prior of data of several markets and of many dates, with a model made without training."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.files import formats, trained_model
from pipeline.files.dataset import Dataset
from pipeline.prior import check_conditions, fit_prior
from tests import bundles
from tests.workspace import Workspace
from vae.model.flow import Flow, FlowShape

MODEL = bundles.linear_model()
SIZES = {"train": 300, "validation": 300}


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Calm surfaces, twice as many as wild ones, and the wild ones again under another name."""
    data = Dataset(tmp_path / "surfaces")
    data.folder.mkdir()
    market = torch.tensor([0, 0, 1, 2]).repeat(75)
    rows = bundles.data()
    rows[market == 1] = 1.2 * rows[market == 1]
    rows[market == 2] = rows[market == 1]
    for split in ("train", "validation"):
        iv = rows.unflatten(1, bundles.GRID.shape).float().numpy()
        data.write_surfaces(split, iv, np.arange(300, dtype=np.int32), {}, market=market.numpy())
    data.write_grid(bundles.GRID)
    data.write_markets(["calm", "wild", "wild too"])
    return data


def test_each_market_has_its_own_components_and_its_share(workspace: Workspace, data: Dataset) -> None:
    workspace.set(train__conditions=["market", "atm_level"], train__prior={"components": [1], "surfaces": 1000})
    params = workspace.params().train
    check_conditions(params, data, SIZES)
    prior = fit_prior(params, MODEL, data)

    assert prior.conditions == ("atm_level",)
    assert prior.markets == ("calm", "wild", "wild too")
    np.testing.assert_allclose(prior.joint.weights, [0.5, 0.25, 0.25])
    market = data.market("train")
    assert market is not None
    seen = MODEL.observe(torch.from_numpy(data.points("train")).double())
    with torch.no_grad():
        posterior = MODEL.encode(seen.values, seen.missing)
    for place, name in enumerate(prior.markets):
        rows = posterior.mean[market == place]
        covariance = torch.cov(rows.T) + torch.diag((2.0 * posterior.log_std).exp().mean(0))
        given = prior.in_market(name)
        torch.testing.assert_close(given.mean, rows.mean(0), atol=0.3, rtol=0.0)  # codes are draws
        torch.testing.assert_close(given.precision.inverse(), covariance, atol=0.5, rtol=0.0)
    wild, again = (prior.in_market(name) for name in ("wild", "wild too"))
    assert torch.equal(wild.mean, again.mean)
    assert torch.equal(wild.precision, again.precision)

    folder = data.folder.parent / "model"
    folder.mkdir()
    trained_model.write_model(folder, MODEL.architecture, MODEL.state_dict(), prior)
    read = trained_model.read(folder).prior
    assert (read.conditions, read.markets) == (prior.conditions, prior.markets)
    np.testing.assert_array_equal(read.component_market, prior.component_market)


def test_a_market_that_cannot_be_a_condition_is_named(workspace: Workspace, data: Dataset) -> None:
    workspace.set(train__conditions=["market"], train__prior={"components": [10], "surfaces": 1000})
    message = (
        "train.conditions: 75 surfaces of the split train are of the market wild and have all of market, but "
        "train.prior.components needs 100; leave market out of train.conditions, or wild out of the data"
    )
    with pytest.raises(InputError, match=message):
        check_conditions(workspace.params().train, data, SIZES)
    (data.folder / "markets.json").unlink()
    with pytest.raises(InputError, match=r"does not tell markets apart; prepare\.quotes\.columns\.market names the"):
        check_conditions(workspace.params().train, data, SIZES)


def wandering(folder: Path, days: int) -> Dataset:
    """Surfaces whose latents go round once, with noise: at any time they are where they never were before."""
    data = Dataset(folder / "surfaces")
    data.folder.mkdir()
    turn, generator = torch.linspace(0.0, 2.0 * math.pi, days), torch.Generator().manual_seed(3)
    circle = math.sqrt(2.0) * torch.stack([turn.cos(), turn.sin()], 1) + 0.2 * torch.randn(days, 2, generator=generator)
    z = torch.cat([circle, torch.randn(days, 1, generator=generator)], 1).double()
    with torch.no_grad():
        iv = MODEL.expand(MODEL.decode(z)).unflatten(1, bundles.GRID.shape).float()
    day = torch.arange(days)
    for split, rows in (("train", day % 5 > 0), ("validation", day % 5 == 0)):
        data.write_surfaces(split, iv[rows].numpy(), day[rows].int().numpy(), {})
    data.write_grid(bundles.GRID)
    return data


def test_a_law_that_does_not_hold_at_other_times_is_not_taken(workspace: Workspace, tmp_path: Path) -> None:
    """Gaussians follow the days that they are fitted to, and miss the others; without dates nobody can know."""
    workspace.set(train__prior={"components": [1, 6], "surfaces": 1000})
    data = wandering(tmp_path, days=600)
    prior = fit_prior(workspace.params().train, MODEL, data)
    assert prior.described == "N(0, I) over z"
    for split in ("train", "validation"):
        iv = data.points(split).reshape(-1, *bundles.GRID.shape)
        data.file(split).unlink()
        formats.write_arrays(data.file(split), {"iv": iv})
    assert "6 Gaussians" in fit_prior(workspace.params().train, MODEL, data).described


def test_a_flow_is_read_as_it_was_written(tmp_path: Path) -> None:
    torch.manual_seed(0)
    flow = Flow.of_codes(torch.randn(50, 3), FlowShape(3, 2, width=8, bins=4)).double()
    trained_model.write_model(tmp_path, MODEL.architecture, MODEL.state_dict(), trained_model.Prior(flow))
    read = trained_model.read(tmp_path).prior
    z = np.random.default_rng(0).standard_normal((20, 3))
    np.testing.assert_array_equal(read.latents.log_density(z), flow.log_density(z))
    assert read.described == "flow of splines in 2 layers over z"
    formats.write_arrays(tmp_path / "prior.safetensors", {"table": np.zeros(1)}, {"flow": "{}"})
    with pytest.raises(InputError, match="it holds no law"):
        trained_model.read(tmp_path)
