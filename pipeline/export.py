"""The stage export: the ONNX bundle, published only if it agrees with torch in double precision."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.dynamics import latest
from pipeline.export_parity import checked_parity
from pipeline.files import formats, motion_file, tensor_files, trained_model
from pipeline.files.atomic import check_writable, new_folder
from pipeline.files.dataset import Dataset
from pipeline.files.motion_file import FittedMotion
from pipeline.files.trained_model import Prior
from pipeline.settings.export import ExportParams
from vae.bundle import (
    COMPLETER,
    DECODER,
    ENCODER,
    FORMAT,
    HALF_DECODER,
    MANIFEST,
    QUANTILES,
    SAMPLER,
    SCENARIOS,
    SCORER,
    VECTORS,
    Layout,
    measured,
)
from vae.dynamics.kalman_filter import compact
from vae.graphs import export, scorer
from vae.graphs.completer import completer_graph
from vae.graphs.sampler import sampler_graph
from vae.graphs.scenarios import scenarios_graph, tells_arbitrage
from vae.graphs.vector_completer import vector_completer_graph
from vae.model.autoencoder import Vae
from vae.surface.days import date_of
from vae.surface.grid import Grid
from vae.surface.reading_error import ReadingError, reading_error
from vae.surface.units import BASIS_POINTS

_ROWS = 256  # surfaces scored at a time
_READ = 1000  # training surfaces, at most, from which the error of reading between points is learned


def main(settings: ExportParams, *, surfaces: Path, model: Path, bundle: Path, metrics: Path) -> None:
    """Write the folder ``bundle`` and the parity figures ``metrics``."""
    check_writable(metrics)
    data = Dataset(surfaces)
    trained, prior = trained_model.read(model)
    grid, motion = None if data.of_vectors else data.grid, motion_file.read(model)
    test = torch.from_numpy(data.points("test")).unflatten(1, layout_of(trained, grid).shape)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(settings.seed))
    reading = _reading_error(data, grid) if grid else None
    with new_folder(bundle) as folder:
        contents = graph_files(trained, prior, grid, reading, half=settings.fp16, memory=motion is not None)
        dynamics: dict[str, object] = {}
        if motion is not None and grid:
            motion = latest(motion, trained, data)
            contents[SCENARIOS] = motion_graph(trained, prior, grid, motion)
            dynamics = {"dynamics": motion_facts(motion, trained, grid)}
        scored = test[order[: settings.scored_surfaces]]
        ranks = score_quantiles(in_single_precision(trained) if grid else trained, scored)
        manifest = make_manifest(trained, prior, grid, contents, ranks, prior.markets or data.markets) | dynamics
        for name, content in contents.items():
            formats.write_bytes(folder / name, content)
        formats.write_json(folder / MANIFEST, manifest)
        figures = checked_parity(trained, prior, motion, folder, test, settings)
        formats.write_json(folder / MANIFEST, {**manifest, "parity": figures})
        sizes = {f"{Path(name).stem}_bytes": len(content) for name, content in contents.items()}
        formats.write_json(metrics, {**figures, **_reading_figures(reading), **sizes})


def _reading_error(data: Dataset, grid: Grid) -> ReadingError:
    """The error of reading between the points of the grid, learned from training surfaces."""
    truth = data.truth("train")
    return reading_error(truth[:: -(-len(truth) // _READ)].reshape(-1, *grid.shape), grid)


def _reading_figures(reading: ReadingError | None) -> dict[str, float]:
    """Root mean square of the errors of reading in the middle between two tenors and two nodes; none for vectors."""
    if reading is None:
        return {}
    means = {axis: float(np.square(part).mean()) for axis, part in reading._asdict().items()}
    return {f"reading_error_{axis}_bp": BASIS_POINTS * mean**0.5 for axis, mean in means.items()}


def _point_noise(model: Vae) -> list[float] | None:
    """Standard deviation of the independent noise, one for all points or each, relative with the transform ``log``.

    None where it depends on the latents, and for Bernoulli points.
    """
    return model.scale.double().flatten().tolist() if model.noise_is_fixed else None


def layout_of(model: Vae, grid: Grid | None) -> Layout:
    """The layout of the graphs of a model: surfaces on the grid, or vectors where there is none."""
    return Layout.of_surfaces(grid.shape) if grid else Layout.of_vectors(model.architecture.dimension)


def graph_files(
    model: Vae,
    prior: Prior,
    grid: Grid | None,
    reading: ReadingError | None = None,
    *,
    half: bool = False,
    memory: bool = False,
) -> dict[str, bytes]:
    """The ONNX files of a bundle by name; of a bundle of vectors where there is no grid.

    ``reading`` holds the errors of reading surfaces between the points of the grid, none by default. With ``memory``
    the completer says what a law of motion needs to remember.

    Vectors are completed and scored in double precision, as their units and their numbers of points are anyone's.
    """
    metadata = _metadata(model, prior, grid)
    single, layout = in_single_precision(model), layout_of(model, grid)
    made = {
        DECODER: export.decoder_graph(single, layout, metadata),
        ENCODER: export.encoder_graph(single, layout, metadata),
        SAMPLER: sampler_graph(
            single, prior.law, len(prior.conditions), layout, metadata, market=prior.component_market
        ),
        COMPLETER: (
            completer_graph(
                single, grid, metadata, [prior.in_market(name) for name in prior.markets], reading, memory=memory
            )
            if grid
            else vector_completer_graph(model, metadata)
        ),
        SCORER: scorer.scorer_graph(single if grid else model, layout, metadata),
    }
    return made | ({HALF_DECODER: export.half_decoder_graph(single, layout, metadata)} if half else {})


def _metadata(model: Vae, prior: Prior, grid: Grid | None) -> dict[str, str]:
    """The metadata of each graph: version, format, conditions and facts of the data."""
    facts = {name: fact if isinstance(fact, str) else json.dumps(fact) for name, fact in _facts(model, grid).items()}
    return {
        "volvae_version": version("volvae"),
        "format": str(FORMAT),
        "conditions": json.dumps(prior.conditions),
        "weights_sha256": weights_sha256(model),
        **facts,
    }


def motion_graph(model: Vae, prior: Prior, grid: Grid, motion: FittedMotion) -> bytes:
    """``scenarios.onnx`` of a model with a law of motion."""
    return scenarios_graph(in_single_precision(model), motion.law, grid, _metadata(model, prior, grid))


def motion_facts(motion: FittedMotion, model: Vae, grid: Grid) -> dict[str, object]:
    """The law of motion and its state in the manifest."""
    with torch.no_grad():
        iv = model.expand(torch.from_numpy(motion.state.coordinates)).reshape(grid.shape).numpy()
    return {
        "form": motion.form,
        "underlying": motion.underlying,
        "date": date_of(motion.date).isoformat(),
        "center": model.center.tolist(),
        "noise": _root_mean_square(model.scale),
        "tells_arbitrage": tells_arbitrage(grid),
        "law": {name: part.astype(np.float32).tolist() for name, part in compact(motion.law)._asdict().items()},
        **{name: part.astype(np.float32).tolist() for name, part in (motion.state._asdict() | {"iv": iv}).items()},
    }


def _facts(model: Vae, grid: Grid | None) -> dict[str, object]:
    """Facts of the data that the manifest and each graph state."""
    if grid:
        return {
            "units": "iv: decimal Black volatility; tenor: years, ACT/365; log_moneyness: ln(strike / forward)",
            "observation_scale_vol": _root_mean_square(model.independent_noise),  # of a quote of weight 1
            "transform": model.architecture.transform,
            "noise": _point_noise(model),
            "grid": grid.to_dict(),
        }
    binary = model.architecture.likelihood == "bernoulli"
    return {
        "units": "x: probability that a point is 1" if binary else "x: in the units of the training data",
        "kind": VECTORS,
        "dimension": model.architecture.dimension,
        "likelihood": model.architecture.likelihood,
        "transform": model.architecture.transform,
        "observation_scale": None if binary else _root_mean_square(model.noise),
        "noise": _point_noise(model),
    }


def make_manifest(
    model: Vae,
    prior: Prior,
    grid: Grid | None,
    contents: Mapping[str, bytes],
    scores: Mapping[str, object],
    markets: Sequence[str] = (),
) -> dict[str, object]:
    """The manifest of a bundle: versions, data, prior, scores, markets if there are any, and hashes of its files."""
    return {
        "format": FORMAT,
        "volvae_version": version("volvae"),
        "latents": model.architecture.latents,
        "residual_factors": model.architecture.residual_factors,
        "conditions": list(prior.conditions),
        **({"condition_ranges": prior.condition_ranges} if prior.conditions else {}),
        **({"markets": list(markets), "market_is_condition": bool(prior.markets)} if markets else {}),
        "prior": prior.described,
        "weights_sha256": weights_sha256(model),
        "reads_missing": model.architecture.sees_missing,
        **_facts(model, grid),
        "scores": dict(scores),
        "files": {
            name: {"sha256": formats.sha256(content), "bytes": len(content)} for name, content in contents.items()
        },
    }


def score_quantiles(model: Vae, x: Tensor) -> dict[str, object]:
    """Quantiles of the scores of held-out surfaces x [batch, tenor, node] or vectors [batch, D], which rank others."""
    known = ~x.isnan()
    mask = known.float() if model.architecture.sees_missing else None
    with torch.no_grad():
        parts = [
            scorer.scored(model, torch.nan_to_num(x[rows]), None if mask is None else mask[rows])
            for rows in torch.arange(len(x)).split(_ROWS)
        ]
    points = known.flatten(1).sum(1).numpy()
    nats, misfit, distance, error = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    found = measured(nats, misfit, distance, error, points)
    quantiles = {name: np.quantile(values, QUANTILES).tolist() for name, values in found.items()}
    return {**quantiles, "fewest_points": int(points.min()), "surfaces": len(x)}


def weights_sha256(model: Vae) -> str:
    """Hash of the weights, independent of the file that they were read from."""
    return formats.sha256(tensor_files.tensor_bytes(model.state_dict()))


def _root_mean_square(deviation: Tensor) -> float:
    return deviation.square().mean().sqrt().item()


def in_single_precision(model: Vae) -> Vae:
    """A copy of the model in single precision."""
    copy = Vae(model.architecture)
    copy.load_state_dict(model.state_dict())
    return copy.eval()
