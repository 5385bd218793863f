"""The prior of data of several markets, with a model made without training."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.files import trained_model
from pipeline.files.dataset import Dataset
from pipeline.prior import check_conditions, fit_prior
from tests import bundles
from tests.workspace import Workspace

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
