"""Frames of pandas, polars and pyarrow as quotes and surfaces: the same bits as their columns."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from vae.runtime import SurfaceModel
from vae.surface.grid import Grid
from vae.surface.surfaces import Surfaces, of_points, point_columns

_QUOTES = {"iv": [0.2, 0.22], "tenor_years": [0.1, 0.5], "log_moneyness": [0.0, -0.05]}


@pytest.fixture
def model(linear_bundle: Path) -> SurfaceModel:
    return SurfaceModel.load(linear_bundle, provider="cpu")


@pytest.fixture(params=["pandas.DataFrame", "pyarrow.table", "polars.DataFrame"])
def frame(request: pytest.FixtureRequest) -> Callable[[dict], Any]:
    """Makes a frame of columns."""
    package, _, name = request.param.rpartition(".")
    return getattr(importlib.import_module(package), name)


def test_a_frame_of_quotes_is_completed_as_its_columns(model: SurfaceModel, frame: Callable[[dict], Any]) -> None:
    expected = model.complete([0.2, 0.22], tenor=[0.1, 0.5], log_moneyness=[0.0, -0.05], weight=[1.0, 4.0])
    found = model.complete(frame({**_QUOTES, "weight": [1.0, 4.0]}))
    for one, other in zip(found[:-1], expected[:-1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_frame_of_points_is_scored_as_its_surfaces(model: SurfaceModel, frame: Callable[[dict], Any]) -> None:
    """Rows may be in any order."""
    surfaces = model.sample(3, seed=1)
    columns = model.surfaces(surfaces).to_pandas().sample(frac=1.0, random_state=0)
    found = model.score(frame(columns.to_dict("list")))
    for one, other in zip(found, model.score(surfaces), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("convention", ["sqrt_time", "log_moneyness", "delta"])
def test_points_are_the_surfaces_again(convention: Any) -> None:
    grid = Grid([0.25, 1.0], [0.25, 0.5, 0.75], convention)
    iv = np.linspace(0.1, 0.32, 12, dtype=np.float32).reshape(2, 2, 3)
    columns = point_columns(iv, grid, surface=np.array([7, 3])[:, None, None])
    assert list(columns) == list(Surfaces(iv, grid).to_pandas())
    found, numbers = of_points(columns, grid)
    np.testing.assert_array_equal(found, iv[::-1])
    assert numbers.tolist() == [3, 7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tenor_years": None}, "no column 'tenor_years'; needed: iv, tenor_years"),
        ({"bid": [1.0, 1.0]}, "the column 'bid' is not read here; allowed: iv, tenor_years, log_moneyness, call_delta"),
        ({"tenor_years": ["1M", "6M"]}, "the column 'tenor_years' must hold numbers"),
        ({"iv": [0.2, None]}, "iv of quote 1 is nan; it must be positive and finite"),
        ({"log_moneyness": None}, "quotes need tenor and one of log_moneyness and call_delta"),
    ],
)
def test_another_frame_is_refused_by_the_name_of_the_column(
    model: SurfaceModel, frame: Callable[[dict], Any], change: dict, message: str
) -> None:
    columns = {name: values for name, values in (_QUOTES | change).items() if values is not None}
    with pytest.raises(ValueError, match=message):
        model.complete(frame(columns))


def test_what_a_frame_says_may_not_be_said_beside_it(model: SurfaceModel) -> None:
    with pytest.raises(ValueError, match="in its own columns"):
        model.complete(pa.table(_QUOTES), tenor=0.5)
    with pytest.raises(ValueError, match="one row for each point of the model's grid of 2 tenors x 4 nodes"):
        model.score(pd.DataFrame(_QUOTES))


def test_a_surface_in_a_frame_without_such_columns_is_an_array(model: SurfaceModel) -> None:
    """As before: tenors down, nodes across."""
    surface = model.sample(1, seed=2)[0]
    np.testing.assert_array_equal(model.complete(pd.DataFrame(surface)).iv, model.complete(surface).iv)
