"""Samples beside data: what they are compared with, by the kind of data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.evaluate_samples import fresh_surfaces, interleaved_halves, sample_figures
from pipeline.files.dataset import Dataset
from pipeline.settings.evaluate import EvaluateParams
from tests import bundles
from tests.workspace import Workspace
from vae.evaluation.sample_fidelity import BLOCKS
from vae.pricing import heston_surfaces

SETTINGS = EvaluateParams(
    seed=7, importance_samples=[1, 2], prior_samples=200, completion_points=[2], arbitrage_tolerance=1e-6
)
DIRECTIONS = torch.eye(bundles.GRID.shape[0] * bundles.GRID.shape[1], dtype=torch.float64)[:, :3]


def dated(folder: Path, train: torch.Tensor, test: torch.Tensor) -> Dataset:
    folder.mkdir()
    data = Dataset(folder)
    data.write_grid(bundles.GRID)
    for split, rows in (("train", train), ("test", test)):
        surfaces = rows.unflatten(1, bundles.GRID.shape).float().numpy()
        data.write_surfaces(split, surfaces, np.arange(len(rows), dtype=np.int32), {})
    return data


def test_halves_are_stretches_in_turns() -> None:
    a, b = interleaved_halves(torch.arange(4.0 * BLOCKS).unsqueeze(1))
    assert torch.cat(a)[:4].flatten().tolist() == [0.0, 1.0, 4.0, 5.0]
    assert torch.cat(b)[:4].flatten().tolist() == [2.0, 3.0, 6.0, 7.0]


@pytest.mark.slow
def test_a_drift_of_the_data_is_no_error_of_the_samples(tmp_path: Path) -> None:
    """Test surfaces lie a spread above the training surfaces, of whose law the samples are."""
    rows = bundles.data().double()
    train, samples, test = rows[:100], rows[100:200], rows[200:260] + rows.std(0)
    drawn = {"sample": samples}
    figures = sample_figures(dated(tmp_path / "data", train, test), drawn, drawn, DIRECTIONS, SETTINGS)
    for name, drifted in (("sample", False), ("floor", False), ("drift", True), ("sample_to_test", True)):
        value, error = figures[f"{name}_energy_distance"], figures[f"{name}_energy_distance_se"]
        assert (value > 4.0 * error) == drifted, name
    assert figures["drift_boosting_accuracy"] > 0.6
    assert not any("box" in name for name in figures)
    few = dated(tmp_path / "few", train, test[:49])
    assert sample_figures(few, {"sample": samples}, {"sample": samples}, DIRECTIONS, SETTINGS) == {}


def test_fresh_surfaces_are_those_of_the_law(prepared: Workspace) -> None:
    data = Dataset(prepared.folder / "data/surfaces")
    law = data.law
    assert law is not None
    fresh = fresh_surfaces(law, data.grid, 50, seed=1)
    assert torch.equal(fresh, fresh_surfaces(law, data.grid, 50, seed=1))
    assert not torch.equal(fresh, fresh_surfaces(law, data.grid, 50, seed=2))
    test = torch.from_numpy(data.truth("test")).double()
    assert fresh.mean() == pytest.approx(test.mean().item(), abs=0.03)
    assert not fresh.isnan().any()


@pytest.mark.slow
def test_samples_outside_of_the_box_are_counted(prepared: Workspace) -> None:
    """A third has a correlation of 0.1, where the box ends at 0; a flat surface is no Heston surface of the box."""
    data = Dataset(prepared.folder / "data/surfaces")
    law = data.law
    assert law is not None
    inside = fresh_surfaces(law, data.grid, 40, seed=1)
    parameters = torch.tensor([[0.04, 2.0, 0.06, 0.5, 0.1]], dtype=torch.float64)
    outside = heston_surfaces.surfaces(parameters, data.grid).vol.flatten(1).expand(20, -1)
    directions = torch.eye(inside.shape[1], dtype=torch.float64)[:, :2]
    samples = {"sample": torch.cat([inside, outside]), "reconstruction": inside}
    figures = sample_figures(data, {"sample": samples["sample"]}, samples, directions, SETTINGS)
    assert figures["sample_outside_box_rate"] == pytest.approx(1.0 / 3.0, abs=1e-6)
    assert figures["reconstruction_outside_box_rate"] == 0.0
    assert figures["sample_off_model_rate"] == figures["reconstruction_off_model_rate"] == 0.0
