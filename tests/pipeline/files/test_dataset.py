"""A data set comes back from its folder as it was written."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import safetensors

from pipeline.errors import InputError
from pipeline.files import formats
from pipeline.files.dataset import Dataset, SimulatedLaw
from vae.surface.grid import Grid

GRID = Grid([0.1, 0.5], [-0.1, 0.0, 0.1], "log_moneyness")


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def test_surfaces_come_back_with_what_belongs_to_them(tmp_path: Path) -> None:
    data, iv = Dataset(tmp_path), random(4, 2, 3)
    iv[1, 0, 2] = np.nan
    vix = np.array([20.0, np.nan, 22.0, 23.0])
    data.write_surfaces("train", iv, np.arange(4, dtype=np.int32), {"vix": vix})
    data.write_grid(GRID)
    data.write_law(SimulatedLaw("heston", (0.0, -1.0), (1.0, 1.0), 1e-4, 1e-6))

    np.testing.assert_array_equal(data.points("train"), iv.reshape(4, 6))
    np.testing.assert_array_equal(data.truth("train"), data.points("train"))
    np.testing.assert_array_equal(data.conditions("train")["vix"], vix)
    assert data.grid.to_dict() == GRID.to_dict()
    assert data.law == ("heston", (0.0, -1.0), (1.0, 1.0), 1e-4, 1e-6)
    assert data.law.log_volume == pytest.approx(math.log(2.0))
    assert data.parameters("train") is None
    assert data.likelihood == "gaussian"


def test_surfaces_keep_their_market_and_time(tmp_path: Path) -> None:
    data, iv, dates = Dataset(tmp_path), random(3, 2, 3), np.array([5, 5, 6], np.int32)
    data.write_surfaces("train", iv, dates, {})
    assert data.markets == ()
    assert data.market("train") is None
    assert data.time("train") is None

    time, market = np.array([5.25, 5.5, 6.25]), np.array([1, 0, 1])
    data.write_surfaces("train", iv, dates, {}, time=time, market=market)
    data.write_markets(["AUDUSD", "EUR/USD"])
    assert data.markets == ("AUDUSD", "EUR/USD")
    np.testing.assert_array_equal(data.market("train"), market)
    np.testing.assert_array_equal(data.time("train"), time)

    data.write_markets(["AUDUSD"])
    with pytest.raises(InputError, match=r"train\.safetensors does not name one of the 1 markets"):
        data.market("train")
    (tmp_path / "markets.json").write_text(json.dumps({"markets": "AUDUSD"}))
    with pytest.raises(InputError, match=r"markets\.json must hold the list"):
        _ = data.markets


def test_vectors_have_a_likelihood_and_no_grid(tmp_path: Path) -> None:
    data, values = Dataset(tmp_path), np.array([[0.0, 1.0], [1.0, 1.0]], np.float32)
    data.write_vectors("train", values, likelihood="bernoulli")
    np.testing.assert_array_equal(data.points("train"), values)
    assert data.likelihood == "bernoulli"
    assert data.law is None
    with pytest.raises(InputError, match=r"holds no grid\.json: prepare\.source: array makes vectors"):
        _ = data.grid


def test_a_file_that_is_there_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors gives any failure to open a file that name."""

    def fail(*_: object, **__: object) -> None:
        raise FileNotFoundError("No such file or directory: train.safetensors")

    (tmp_path / "train.safetensors").touch()
    monkeypatch.setattr(safetensors, "safe_open", fail)
    with pytest.raises(InputError, match=r"train\.safetensors cannot be read: No such file"):
        Dataset(tmp_path).arrays("train")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_json_is_one_line(tmp_path: Path, opening: str) -> None:
    (tmp_path / "grid.json").write_text(opening * 100_000)
    with pytest.raises(InputError, match=r"grid\.json is damaged or of another format"):
        formats.read_json(tmp_path / "grid.json")


def test_a_split_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    data, dates = Dataset(tmp_path), np.arange(2, dtype=np.int32)
    with pytest.raises(InputError, match=r"train\.safetensors does not exist"):
        data.points("train")
    data.write_surfaces("train", random(0, 2, 3), dates[:0], {})
    with pytest.raises(InputError, match="is empty; give the split train a larger share"):
        data.points("train")
    iv = random(2, 2, 3)
    iv[1] = np.nan
    data.write_surfaces("train", iv, dates, {})
    with pytest.raises(InputError, match="surface 2 has no point; raise"):
        data.points("train")
    law = {"model": "heston", "low": [0.0], "high": [1.0], "quote_noise_vol": 1e-4, "vol_tolerance": 1e-6}
    for wrong in ({"quote_noise_vol": 1.0}, law | {"low": [1.0]}, law | {"low": []}, law | {"vol_tolerance": "few"}):
        (tmp_path / "law.json").write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=r"law\.json is not a law"):
            _ = data.law
