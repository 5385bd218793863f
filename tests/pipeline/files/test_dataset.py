"""A data set comes back from its folder as it was written."""

import json
from pathlib import Path

import pytest
import torch

from pipeline.errors import InputError
from pipeline.files.dataset import Dataset, Law
from vae.surface.grid import Grid

GRID = Grid([0.1, 0.5], [-0.1, 0.0, 0.1], "log_moneyness")


def test_surfaces_come_back_with_what_belongs_to_them(tmp_path: Path) -> None:
    data, iv = Dataset(tmp_path), torch.rand(4, 2, 3)
    iv[1, 0, 2] = torch.nan
    vix = torch.tensor([20.0, torch.nan, 22.0, 23.0], dtype=torch.float64)
    data.write_surfaces("train", iv, torch.arange(4).int(), {"vix": vix})
    data.write_grid(GRID)
    data.write_law(Law(1e-4, -3.0))

    torch.testing.assert_close(data.points("train"), iv.flatten(1), rtol=0.0, atol=0.0, equal_nan=True)
    torch.testing.assert_close(data.truth("train"), data.points("train"), rtol=0.0, atol=0.0, equal_nan=True)
    torch.testing.assert_close(data.conditions("train"), {"vix": vix}, rtol=0.0, atol=0.0, equal_nan=True)
    assert data.grid.to_dict() == GRID.to_dict()
    assert data.law == (1e-4, -3.0)
    assert data.likelihood == "gaussian"


def test_surfaces_keep_their_market_and_time(tmp_path: Path) -> None:
    data, iv, dates = Dataset(tmp_path), torch.rand(3, 2, 3), torch.tensor([5, 5, 6]).int()
    data.write_surfaces("train", iv, dates, {})
    assert data.markets == ()
    assert data.market("train") is None
    assert data.time("train") is None

    time, market = torch.tensor([5.25, 5.5, 6.25], dtype=torch.float64), torch.tensor([1, 0, 1])
    data.write_surfaces("train", iv, dates, {}, time=time, market=market)
    data.write_markets(["AUDUSD", "EUR/USD"])
    assert data.markets == ("AUDUSD", "EUR/USD")
    torch.testing.assert_close(data.market("train"), market)
    torch.testing.assert_close(data.time("train"), time, rtol=0.0, atol=0.0)

    data.write_markets(["AUDUSD"])
    with pytest.raises(InputError, match=r"train\.safetensors does not name one of the 1 markets"):
        data.market("train")
    (tmp_path / "markets.json").write_text(json.dumps({"markets": "AUDUSD"}))
    with pytest.raises(InputError, match=r"markets\.json must hold the list"):
        _ = data.markets


def test_vectors_have_a_likelihood_and_no_grid(tmp_path: Path) -> None:
    data, values = Dataset(tmp_path), torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    data.write_vectors("train", values, likelihood="bernoulli")
    assert torch.equal(data.points("train"), values)
    assert data.likelihood == "bernoulli"
    assert data.law is None
    with pytest.raises(InputError, match=r"holds no grid\.json: prepare\.source: array makes vectors"):
        _ = data.grid


def test_a_split_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    data, dates = Dataset(tmp_path), torch.arange(2).int()
    with pytest.raises(InputError, match=r"train\.safetensors does not exist"):
        data.points("train")
    data.write_surfaces("train", torch.empty(0, 2, 3), dates[:0], {})
    with pytest.raises(InputError, match="is empty; give the split train a larger share"):
        data.points("train")
    iv = torch.rand(2, 2, 3)
    iv[1] = torch.nan
    data.write_surfaces("train", iv, dates, {})
    with pytest.raises(InputError, match="surface 2 has no point; raise"):
        data.points("train")
    (tmp_path / "law.json").write_text(json.dumps({"quote_noise_vol": 1.0}))
    with pytest.raises(InputError, match=r"law\.json is not a law"):
        _ = data.law
