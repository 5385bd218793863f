"""The stage export: the ONNX bundle, published only if it agrees with torch in double precision."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline import files, weights
from pipeline.atomic import check_writable, new_folder
from pipeline.errors import StageError
from pipeline.params import ExportParams, Params
from pipeline.weights import Prior
from vae import graphs, runtime
from vae.grid import Grid
from vae.model import Vae


def main(params: Params, *, surfaces: Path, model: Path, bundle: Path, metrics: Path) -> None:
    """Write the folder ``bundle`` and the parity figures ``metrics``."""
    check_writable(metrics)
    grid = files.read_grid(surfaces)
    trained = weights.read_model(model)
    iv = _complete(files.read_points(surfaces, "test")).unflatten(1, grid.shape)
    with new_folder(bundle) as folder:
        prior = weights.read_prior(model, latents=trained.architecture.latents)
        contents = {**graph_files(trained, grid), runtime.PRIOR: files.array_bytes(prior.joint.table())}
        manifest = make_manifest(trained, prior, grid, contents)
        for name, content in contents.items():
            files.write_bytes(folder / name, content)
        files.write_json(folder / runtime.MANIFEST, manifest)
        figures = parity(trained, folder, iv, params.export)
        _check(figures, params.export)
        files.write_json(folder / runtime.MANIFEST, {**manifest, "parity": figures})
        sizes = {f"{Path(n).stem}_bytes": len(content) for n, content in contents.items()}
        files.write_json(metrics, {**figures, **sizes})


def _complete(points: Tensor) -> Tensor:
    """The surfaces without missing points, which alone the encoder's graph reads."""
    return points[~points.isnan().any(1)]


def graph_files(model: Vae, grid: Grid) -> dict[str, bytes]:
    """The ONNX files of a bundle by name."""
    metadata = {
        "volvae_version": version("volvae"),
        "format": str(runtime.FORMAT),
        "grid": json.dumps(grid.to_dict()),
        "units": "iv: decimal Black volatility; tenors: years, ACT/365",
        "observation_scale_vol": repr(scale_of(model)),
    }
    single = _single(model)
    return {
        runtime.DECODER: graphs.decoder_graph(single, grid, metadata),
        runtime.ENCODER: graphs.encoder_graph(single, grid, metadata),
    }


def make_manifest(model: Vae, prior: Prior, grid: Grid, contents: Mapping[str, bytes]) -> dict[str, object]:
    """What a bundle says of itself."""
    return {
        "format": runtime.FORMAT,
        "volvae_version": version("volvae"),
        "latents": model.architecture.latents,
        "conditions": list(prior.conditions),
        "prior": f"mixture of {len(prior.joint.weights)} Gaussians over the conditions and z",
        "observation_scale_vol": scale_of(model),
        "grid": grid.to_dict(),
        "files": {name: {"sha256": files.sha256(content), "bytes": len(content)} for name, content in contents.items()},
    }


def scale_of(model: Vae) -> float:
    """Root mean square of the noise of an observation."""
    return model.noise.square().mean().sqrt().item()


def parity(model: Vae, bundle: Path, iv: Tensor, params: ExportParams) -> dict[str, float]:
    """Largest differences between the bundle on the CPU and ``model`` in double precision.

    Vols on random latents and on the codes of surfaces iv [surface, tenor, node]; posterior means on those surfaces,
    also in units of their standard deviation.
    """
    loaded = runtime.SurfaceModel.load(bundle, provider="cpu")
    generator = torch.Generator().manual_seed(params.seed)
    random = torch.randn(params.parity_samples, model.architecture.latents, generator=generator)
    with torch.no_grad():
        posterior = model.encode(model.observe(iv.double().flatten(1)).values)
        latents = torch.cat((random, posterior.mean.float()))
        expected = graphs.Decoder(model, loaded.grid)(latents.double()).numpy()
    mean, std = posterior.mean.numpy(), posterior.log_std.exp().numpy()
    encoded = loaded.encode(iv.numpy())
    difference = np.abs(encoded.mean - mean)
    return {
        "parity_decoder_max_vol": float(np.abs(loaded.decode(latents.numpy()) - expected).max()),
        "parity_encoder_max": float(difference.max(initial=0.0)),
        "parity_encoder_max_in_stds": float((difference / std).max(initial=0.0)),
        "parity_encoder_std_max_relative": float(np.abs(encoded.std / std - 1.0).max(initial=0.0)),
        "parity_samples": len(latents),
    }


def _check(figures: Mapping[str, float], params: ExportParams) -> None:
    """Raise StageError for a figure above its tolerance, or one that is not a number."""
    limits = {
        "parity_decoder_max_vol": ("export.parity_tolerance_vol", params.parity_tolerance_vol),
        "parity_encoder_max_in_stds": ("export.parity_tolerance_latent", params.parity_tolerance_latent),
    }
    for name, (key, limit) in limits.items():
        if not figures[name] <= limit:
            raise StageError(f"{name} is {figures[name]:.3g}, above {key} = {limit:g}; no bundle was written")


def _single(model: Vae) -> Vae:
    """A copy of the model in single precision."""
    copy = Vae(model.architecture)
    copy.load_state_dict(model.state_dict())
    return copy.eval()
