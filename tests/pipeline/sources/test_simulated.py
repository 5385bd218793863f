"""The registry of simulated models, beside the settings and the stage that use it."""

from typing import get_args

import numpy as np
import pytest
import torch

from pipeline.settings.prepare import PrepareParams
from vae.pricing.priced_surfaces import OK
from vae.pricing.simulated_models import MODELS
from vae.surface.grid import Grid

SETTINGS = {get_args(part)[1].tag: get_args(part)[0] for part in get_args(get_args(PrepareParams)[0])}
GRIDS = {
    "sqrt_time": np.linspace(-0.2, 0.2, 5),
    "log_moneyness": np.linspace(-0.2, 0.2, 5),
    "delta": np.linspace(0.1, 0.9, 5),
}


def test_every_source_of_independent_simulated_surfaces_is_a_simulated_model() -> None:
    assert set(SETTINGS) - {"quotes", "array", "heston_paths"} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_the_settings_have_a_range_for_each_parameter_of_a_model(name: str) -> None:
    ranges = SETTINGS[name].model_fields[name].annotation
    assert tuple(ranges.model_fields) == MODELS[name].parameters


@pytest.mark.parametrize("convention", GRIDS)
def test_heston_has_a_vol_or_a_reason_for_each_point(convention: str) -> None:
    model = MODELS["heston"]
    parameters = torch.tensor([[0.04, 1.5, 0.06, 0.5, -0.7], [0.02, 4.0, 0.1, 0.9, -0.2]], dtype=torch.float64)
    grid = Grid(np.array([1, 365]) / 365, GRIDS[convention], convention)
    priced = model.surfaces(parameters, grid, vol_tolerance=1e-6, compiled=False)
    assert priced.vol.shape == priced.flag.shape == (2, *grid.shape)
    assert torch.equal(priced.vol.isnan(), priced.flag != OK)
    assert priced.flag.max() < len(model.flags)
