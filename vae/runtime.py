"""Load a bundle and sample, decode, encode, complete and score surfaces or vectors. Imports numpy and onnxruntime only.

>>> model = SurfaceModel.load("artifacts/bundle")
>>> surfaces = model.sample(1000, seed=7)
>>> surfaces.shape == (1000, *model.grid.shape)
True
"""

from pathlib import Path

from vae import bundle
from vae.bundle import VECTORS, BundleError
from vae.bundle_model import ODD_PERCENTILE, Posterior, Scores
from vae.motion import Scenarios
from vae.motion_state import State
from vae.quote_completion import Completion
from vae.runtime_inputs import PriorName
from vae.sessions import Provider, SessionOptions
from vae.surface.surfaces import Surfaces
from vae.surface_model import Draws, SurfaceModel
from vae.vector_model import VectorCompletion, VectorDraws, VectorModel

__all__ = [
    "ODD_PERCENTILE",
    "BundleError",
    "Completion",
    "Draws",
    "Posterior",
    "PriorName",
    "Provider",
    "Scenarios",
    "Scores",
    "State",
    "SurfaceModel",
    "Surfaces",
    "VectorCompletion",
    "VectorDraws",
    "VectorModel",
    "load",
]


def load(
    folder: str | Path, *, provider: Provider = "auto", threads: int = 0, check_signature: bool = True
) -> SurfaceModel | VectorModel:
    """The model of a bundle of either kind; see ``BundleModel.load`` for the arguments.

    Raises:
        BundleError: the folder, its manifest or one of its files is missing, altered or of another format, or not
            signed by the key that is set.
        ValueError: a provider that is unknown or that this onnxruntime lacks, or a negative number of threads.
    """
    options, folder = SessionOptions(provider, threads), Path(folder)
    options.check()
    manifest, contents = bundle.read_whole(
        folder, bundle.GRAPHS, optional=(bundle.SCENARIOS,), check_signature=check_signature
    )
    kind = VectorModel if bundle.kind_of(manifest) == VECTORS else SurfaceModel
    return kind.of_content(folder, manifest, contents, options)
