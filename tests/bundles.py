"""Small models made without training, and bundles of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import export
from pipeline.files import formats
from pipeline.files.motion_file import FittedMotion
from pipeline.files.trained_model import Prior
from tests.shared import built_once
from vae.bundle import DECODER, GRAPHS, MANIFEST, SAMPLER, SCENARIOS
from vae.dynamics.fit import History, walk
from vae.dynamics.law import FORMS
from vae.graphs.export import decoder_graph
from vae.graphs.sampler import sampler_graph
from vae.model.autoencoder import Architecture, Vae
from vae.model.linear import principal_components
from vae.model.mixture import Mixture
from vae.surface.grid import Grid

FIRST_DAY = 18_262  # 2020-01-01
GRID = Grid(np.array([0.1, 0.5]), np.linspace(-0.2, 0.2, 4))


def data() -> torch.Tensor:
    torch.manual_seed(0)
    return 0.2 + 0.02 * torch.randn(300, 8, dtype=torch.float64) @ torch.randn(8, 8, dtype=torch.float64)


def linear_model(*, sees_missing: bool = False) -> Vae:
    """A model of three latents that is linear still."""
    return Vae.from_components(Architecture(8, 8, 3, 16, 2, sees_missing=sees_missing), principal_components(data()))


def two_markets(model: Vae) -> Prior:
    """The prior of a linear model of two markets, one of them of two components; two vols are its conditions."""
    means = np.array([[-2.0, 0.0, 0.0], [2.0, 1.0, 0.0], [2.0, -1.0, 0.0]])
    latents = Mixture(np.array([0.25, 0.25, 0.5]), means, np.array([0.3, 0.2, 0.1])[:, None, None] * np.eye(3))
    return Prior(_with_vols(model, latents), ("first", "atm_level"), ("AUDUSD", "EUR/USD"), np.array([0, 1, 1]))


def _with_vols(model: Vae, latents: Mixture) -> Mixture:
    """The joint law of the first vol, the sixth and the latents of a linear model."""
    with torch.no_grad():
        points = model.expand(model.decode(torch.eye(3, dtype=torch.float64))) - model.center
    joint = np.concatenate([points[:, [0, 5]].T.numpy(), np.eye(3)])  # of z, which both vols are linear in
    level = np.concatenate([model.center[[0, 5]].numpy(), np.zeros(3)])
    factors = joint @ latents.factors
    covariances = factors @ factors.swapaxes(1, 2) + 1e-9 * np.eye(5)
    return Mixture(latents.weights, level + latents.means @ joint.T, np.linalg.cholesky(covariances))


def moving_model(*, with_return: bool) -> tuple[Vae, FittedMotion]:
    """A model of log vols that are a random walk, with their law of motion. With a return they follow the level."""
    random, dates = np.random.default_rng(0), 150
    x = torch.from_numpy(0.2 * np.exp(np.cumsum(0.01 * random.standard_normal((dates, 8)), axis=0)))
    sizes = Architecture(8, 8, 2, 16, 1, transform="log", residual_factors=7)
    model = Vae.from_components(sizes, principal_components(x.log()))
    price = np.cumsum(0.01 * random.standard_normal(dates)) if with_return else None
    history = History(model.observe(x).values.numpy(), FIRST_DAY + np.arange(dates), model.basis.numpy(), price)
    elasticity = np.linspace(-0.2, 0.3, 8 * 9).reshape(8, 9) if with_return else None
    walked = walk(history, FORMS["reverting"], elasticity)
    index = "index" if with_return else None
    return model, FittedMotion(walked.law(), walked.state(), int(history.days[-1]), "reverting", index)


def write_bundle(folder: Path, model: Vae, prior: Prior, motion: FittedMotion | None = None) -> Path:
    contents = export.graph_files(model, prior, GRID, memory=motion is not None)
    if motion is not None:
        contents[SCENARIOS] = export.motion_graph(model, prior, GRID, motion)
    manifest = export.make_manifest(model, prior, GRID, contents, _scores(), prior.markets)
    if motion is not None:
        manifest["dynamics"] = export.motion_facts(motion, model, GRID)
    return _written(folder, contents, manifest)


def write_sampler(folder: Path, model: Vae, prior: Prior, grid: Grid) -> Path:
    """A bundle that only decodes and draws: its other graphs cannot be run, and take most of the time of an export."""
    single, layout, metadata = export.in_single_precision(model), export.layout_of(model, grid), {"volvae_version": "1"}
    contents = dict.fromkeys(GRAPHS, b"a graph") | {
        DECODER: decoder_graph(single, layout, metadata),
        SAMPLER: sampler_graph(single, prior.law, len(prior.conditions), layout, metadata),
    }
    return _written(folder, contents, export.make_manifest(model, prior, grid, contents, _scores(), prior.markets))


def _scores() -> dict[str, Any]:
    ranks = {
        "nats_a_point": (1.0, 5.0), "misfit_a_point": (0.5, 1.5), "distance": (0.0, 10.0), "largest_error": (1.0, 5.0)
    }  # fmt: skip
    scores = {name: np.linspace(*ends, 1001).tolist() for name, ends in ranks.items()}
    return scores | {"fewest_points": 8, "surfaces": 2}


def _written(folder: Path, contents: Mapping[str, bytes], manifest: dict[str, Any]) -> Path:
    folder.mkdir()
    for name, graph in contents.items():
        formats.write_bytes(folder / name, graph)
    formats.write_json(folder / MANIFEST, manifest)
    return folder


def write_checksum(folder: Path, name: str) -> None:
    """Make the manifest agree with a file that was changed."""
    manifest, content = formats.read_json(folder / MANIFEST), (folder / name).read_bytes()
    manifest["files"][name] = {"sha256": formats.sha256(content), "bytes": len(content)}
    formats.write_json(folder / MANIFEST, manifest)


def with_scenarios(folder: Path) -> Path:
    """Add a file in place of the graph of a law of motion to a bundle; enough where no graph is run."""
    (folder / SCENARIOS).write_bytes(b"a graph")
    write_checksum(folder, SCENARIOS)
    return folder


@pytest.fixture(scope="session")
def linear_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a linear model that reads missing points, with a standard normal prior; made once, keep it so."""

    def build(folder: Path) -> None:
        write_bundle(folder / "bundle", linear_model(sees_missing=True), Prior(Mixture.standard_normal(3)))

    return built_once(tmp_path_factory, "linear_bundle", build) / "bundle"


@pytest.fixture(scope="session")
def market_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a linear model of ``two_markets`` that reads missing points, made once; do not change it."""

    def build(folder: Path) -> None:
        model = linear_model(sees_missing=True)
        write_bundle(folder / "bundle", model, two_markets(model))

    return built_once(tmp_path_factory, "market_bundle", build) / "bundle"


@pytest.fixture(scope="session")
def moving_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of ``moving_model`` with a return, made once; do not change it."""

    def build(folder: Path) -> None:
        model, motion = moving_model(with_return=True)
        write_bundle(folder / "bundle", model, Prior(Mixture.standard_normal(2)), motion)

    return built_once(tmp_path_factory, "moving_bundle", build) / "bundle"
