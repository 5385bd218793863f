"""A server that tests of this folder share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.server.metrics import Metrics
from tests.deploy.serving import Server, serving
from vae.runtime import SurfaceModel


@pytest.fixture(scope="session")
def bundle(linear_bundle: Path) -> Path:
    return linear_bundle


@pytest.fixture(scope="session")
def model(bundle: Path) -> SurfaceModel:
    return SurfaceModel.load(bundle, provider="cpu", threads=1)


@pytest.fixture(scope="session")
def counters() -> Metrics:
    """The counters of this process, which can have them once."""
    return Metrics()


@pytest.fixture(scope="session")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(bundle, tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(scope="module")
def moving(moving_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a model with a law of motion."""
    with serving(moving_bundle, tmp_path_factory.mktemp("moving")) as found:
        yield found


@pytest.fixture(scope="module")
def own(moving_bundle: Path) -> SurfaceModel:
    """The model of ``moving``, in this process."""
    return SurfaceModel.load(moving_bundle, provider="cpu", threads=1)
