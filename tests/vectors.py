"""Models of vectors, binary and Gaussian, that the stages make."""

from pathlib import Path

import numpy as np
import pytest

from tests.shared import built_once
from tests.workspace import PATHS, Workspace, write_tiny_params

LIKELIHOODS = ("gaussian", "bernoulli")
POINTS = 16


def vectors(likelihood: str, count: int = 800) -> np.ndarray:
    """A curved sheet in [-1, 1]^D seen through noise, or as the signs of its points with some noise."""
    generator = np.random.default_rng(4)
    sheet = np.tanh(1.5 * generator.standard_normal((count, 2)) @ generator.standard_normal((2, POINTS)))
    if likelihood == "bernoulli":
        return sheet + 0.3 * generator.standard_normal(sheet.shape) > 0.0
    return 300.0 + 50.0 * sheet + 5.0 * generator.standard_normal(sheet.shape)


def trained_on_vectors(root: Path, factory: pytest.TempPathFactory, likelihood: str) -> Workspace:
    """All stages but register on vectors, run once for all workers; the Gaussian model decodes its scale."""

    def build(folder: Path) -> None:
        write_tiny_params(root, folder)
        workspace = Workspace(folder)
        scale = "decoded" if likelihood == "gaussian" else "shared"
        workspace.set(
            prepare={"source": "array", "seed": 1, "array": {"path": "vectors.npy", "likelihood": likelihood}},
            train__scaffold_latents=0, train__epochs=30, train__hidden_share=0.2, train__learning_rate=5.0e-3,
            train__model={"latents": 2, "basis": 8, "width": 16, "depth": 1, "scale": scale},
            export__fp16=True, register__gate__coverage_90={"low": 0.5, "high": 1.0},
        )  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            np.save("vectors.npy", vectors(likelihood))
            for stage in PATHS:
                assert workspace.run(stage) == 0, stage

    return Workspace(built_once(factory, f"vectors-{likelihood}", build))
