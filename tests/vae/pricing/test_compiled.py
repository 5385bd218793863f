"""Compiled kernels; the first test compiles, which takes some seconds."""

import shutil

import numpy as np
import pytest
import torch

from vae.pricing import compiled, heston_surfaces
from vae.pricing.heston_surfaces import Kernels
from vae.surface.grid import Grid

GRID = Grid(np.array([26, 364]) / 365, np.linspace(-0.4, 0.3, 8))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler"),
]


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return compiled.kernels(torch.device("cpu"))


def design(count: int) -> torch.Tensor:
    low = torch.tensor([0.01, 0.5, 0.01, 0.1, -0.9], dtype=torch.float64)
    high = torch.tensor([0.16, 5.0, 0.16, 1.0, 0.0], dtype=torch.float64)
    points = torch.quasirandom.SobolEngine(5, scramble=True, seed=2).draw(count, dtype=torch.float64)
    return low + (high - low) * points


@pytest.mark.parametrize("count", [1, 2, 37])
def test_compiled_vols_are_the_eager_ones(kernels: Kernels, count: int) -> None:
    """To the rounding of the prices, for any number of surfaces."""
    eager, fast = (heston_surfaces.surfaces(design(count), GRID, kernels=k) for k in (heston_surfaces.EAGER, kernels))
    assert torch.equal(fast.flag, eager.flag)
    torch.testing.assert_close(fast.vol, eager.vol, rtol=0.0, atol=1e-9, equal_nan=True)


def test_large_total_vols_are_priced_too(kernels: Kernels) -> None:
    """Without another kernel."""
    wide = Grid(np.array([10.0, 30.0]), np.linspace(-0.5, 0.5, 5))
    parameters = torch.tensor([[0.8, 0.5, 1.0, 0.5, -0.3]], dtype=torch.float64)
    eager, fast = (heston_surfaces.surfaces(parameters, wide, kernels=k) for k in (heston_surfaces.EAGER, kernels))
    assert eager.vol.max() > 0.9
    torch.testing.assert_close(fast.vol, eager.vol, rtol=0.0, atol=1e-9, equal_nan=True)


def test_an_option_that_torch_lacks_is_an_error_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one short line; on a device for which nothing was compiled."""
    monkeypatch.setattr(compiled, "_CONTRACTED", "cpp.of_another_version")
    with pytest.raises(
        compiled.CompilerError, match=r"^Unexpected optimization option cpp\.of_another_version"
    ) as error:
        compiled.kernels(torch.device("meta"))
    assert len(str(error.value)) <= 200


def test_a_process_compiles_once(kernels: Kernels) -> None:
    assert compiled.kernels(torch.device("cpu")) is kernels
