"""The stage export: the ONNX bundle, published only if it agrees with torch in double precision."""

import itertools
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.dynamics import latest
from pipeline.errors import StageError
from pipeline.files import formats, motion_file, tensor_files, trained_model
from pipeline.files.atomic import check_writable, new_folder
from pipeline.files.dataset import Dataset
from pipeline.files.motion_file import Motion
from pipeline.files.trained_model import Prior
from pipeline.settings.export import ExportParams
from vae import runtime
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
    BundleError,
    Layout,
    measured,
)
from vae.dynamics.law import passed, scenarios
from vae.dynamics.memory import compact
from vae.graphs import export, scorer
from vae.graphs.completer import completer_graph
from vae.graphs.sampler import sampler_graph
from vae.graphs.scenarios import scenarios_graph, tells_arbitrage
from vae.graphs.vector_completer import vector_completer_graph
from vae.model import completion
from vae.model.autoencoder import Vae
from vae.model.quote_weights import QuoteInterpolator
from vae.runtime import SurfaceModel, VectorModel
from vae.surface.days import date_of, day_of
from vae.surface.grid import Grid
from vae.surface.reading_error import ReadingError, reading_error
from vae.surface.units import BASIS_POINTS

_ROWS = 256  # surfaces scored at a time
_READ = 1000  # training surfaces, at most, from which the error of reading between points is learned
_KNOWN = 40  # points from which surfaces are completed to compare
_PATHS, _STEPS = 200, 5  # of scenarios that are compared


def main(settings: ExportParams, *, surfaces: Path, model: Path, bundle: Path, metrics: Path) -> None:
    """Write the folder ``bundle`` and the parity figures ``metrics``."""
    check_writable(metrics)
    data = Dataset(surfaces)
    trained, prior = trained_model.read(model)
    grid = None if data.of_vectors else data.grid
    layout = layout_of(trained, grid)
    test = torch.from_numpy(data.points("test")).unflatten(1, layout.shape)
    reading = _reading_error(data, grid) if grid else None
    with new_folder(bundle) as folder:
        moved = motion_file.read(model)
        contents = graph_files(trained, prior, grid, reading, half=settings.fp16, memory=moved is not None)
        if moved is not None and grid:
            moved = latest(moved, trained, data)
            contents[SCENARIOS] = motion_graph(trained, prior, grid, moved)
        scored = test[torch.randperm(len(test), generator=_generator(settings))[: settings.scored_surfaces]]
        manifest = make_manifest(
            trained,
            prior,
            grid,
            contents,
            scores(in_single_precision(trained) if grid else trained, scored),
            prior.markets or data.markets,
        )
        if moved is not None and grid:
            manifest["dynamics"] = stated(moved, trained, grid)
        for name, content in contents.items():
            formats.write_bytes(folder / name, content)
        formats.write_json(folder / MANIFEST, manifest)
        try:
            figures = parity(trained, prior, folder, test, settings)
            if moved is not None:
                figures["parity_scenarios_max_vol"] = scenarios_parity(moved, trained, folder, seed=settings.seed)
        except BundleError as error:
            raise StageError(str(error)) from error
        _check(figures, settings)
        formats.write_json(folder / MANIFEST, {**manifest, "parity": figures})
        sizes = {f"{Path(n).stem}_bytes": len(content) for n, content in contents.items()}
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


def motion_graph(model: Vae, prior: Prior, grid: Grid, moved: Motion) -> bytes:
    """``scenarios.onnx`` of a model with a law of motion."""
    return scenarios_graph(in_single_precision(model), moved.law, grid, _metadata(model, prior, grid))


def stated(moved: Motion, model: Vae, grid: Grid) -> dict[str, object]:
    """The law of motion and its state in the manifest."""
    with torch.no_grad():
        iv = model.expand(torch.from_numpy(moved.state.coordinates)).reshape(grid.shape).numpy()
    return {
        "form": moved.form,
        "underlying": moved.underlying,
        "date": date_of(moved.date).isoformat(),
        "center": model.center.tolist(),
        "noise": _root_mean_square(model.scale),
        "tells_arbitrage": tells_arbitrage(grid),
        "law": {name: part.astype(np.float32).tolist() for name, part in compact(moved.law)._asdict().items()},
        **{name: part.astype(np.float32).tolist() for name, part in (moved.state._asdict() | {"iv": iv}).items()},
    }


def scenarios_parity(moved: Motion, model: Vae, bundle: Path, *, seed: int) -> float:
    """Largest difference of vols of scenarios of the bundle from those of the law, in double precision."""
    drawn = SurfaceModel.load(bundle, provider="cpu", check_signature=False).scenarios(n=_PATHS, days=_STEPS, seed=seed)
    days = [moved.date, *(day_of(date) for date in drawn.dates)]
    found = scenarios(moved.law, moved.state, passed(np.array(days)), drawn.shocks)
    with torch.no_grad():
        expected = model.expand(torch.from_numpy(found.coordinates)).numpy()
    return float(np.abs(drawn.iv.reshape(expected.shape) - expected).max())


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


def scores(model: Vae, x: Tensor) -> dict[str, object]:
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


def parity(model: Vae, prior: Prior, bundle: Path, x: Tensor, params: ExportParams) -> dict[str, float]:
    """Largest differences between the bundle on the CPU and ``model`` in double precision.

    Vols or points on random latents and on the codes of surfaces x [batch, tenor, node] or vectors [batch, D];
    posteriors and scores of those; samples at their own latents; completions from some points of the first ones, given
    each market in turn where it is a condition. Differences of vols are in vol, those of vectors in units of the
    largest number in x.
    """
    loaded = runtime.load(bundle, provider="cpu", check_signature=False)  # it is signed when it is registered
    unit, size = ("vol", 1.0) if isinstance(loaded, SurfaceModel) else ("relative", x.abs().max().item())
    generator = _generator(params)
    random = torch.randn(params.parity_samples, model.architecture.latents, generator=generator)
    values, mask = torch.nan_to_num(x.double()), (~x.isnan()).double() if model.architecture.sees_missing else None
    decoder = export.Decoder(model, loaded.layout.shape)
    with torch.no_grad():
        mean, std = (part.numpy() for part in export.Encoder(model)(values, mask))
        latents = torch.cat((random, torch.from_numpy(mean).float()))
        expected = decoder(latents.double()).numpy()
        some = None if mask is None else mask[: params.parity_scores]
        expected_scores = scorer.scored(model, values[: params.parity_scores], some)
    encoded, scored = loaded.encode(x.numpy()), loaded.score(x[: params.parity_scores].numpy())
    difference = np.abs(encoded.mean - mean)
    completed = x[: params.parity_completions]
    completer = (
        _completer_parity(model, prior, loaded, completed, generator)
        if isinstance(loaded, SurfaceModel)
        else _vector_completer_parity(model, loaded, completed, generator)
    )
    return {
        f"parity_decoder_max_{unit}": float(np.abs(loaded.decode(latents.numpy()) - expected).max()) / size,
        "parity_encoder_max": float(difference.max(initial=0.0)),
        "parity_encoder_max_in_stds": float((difference / std).max(initial=0.0)),
        "parity_encoder_std_max_relative": float(np.abs(encoded.std / std - 1.0).max(initial=0.0)),
        f"parity_sampler_max_{unit}": _sampler_parity(model, loaded, params) / size,
        f"parity_completer_max_{unit}": completer / size,
        "parity_scorer_max_nats": float(np.abs(scored.nats - expected_scores.nats.numpy()).max()),
        "parity_scorer_error_max_in_stds": float(np.abs(scored.error - expected_scores.error.numpy()).max()),
        "parity_samples": len(latents),
        **(_variants(bundle, latents.numpy(), expected) if isinstance(loaded, SurfaceModel) else {}),
    }


def _sampler_parity(model: Vae, loaded: SurfaceModel | VectorModel, params: ExportParams) -> float:
    """Largest difference of samples from those decoded from the latents and scores that the sampler returns too."""
    drawn, latents, scores = loaded.drawn(loaded.request(params.parity_samples, params.seed))
    with torch.no_grad():
        values = model.with_residual(
            model.decode(torch.from_numpy(latents).double()), torch.from_numpy(scores).double()
        )
        expected = model.expand(values).unflatten(-1, loaded.layout.shape).numpy()
    return float(np.abs(drawn - expected).max())


def _vector_completer_parity(model: Vae, loaded: VectorModel, x: Tensor, generator: torch.Generator) -> float:
    """Largest difference of vectors completed from some known points of x [batch, D]."""
    seen = completion.keep_random_points(x.double(), _KNOWN, generator)
    expected = torch.cat([completion.complete(model, row).mean for row in seen.split(1)]).numpy()
    return float(np.abs(loaded.complete(seen.numpy()).mean - expected).max())


def _completer_parity(model: Vae, prior: Prior, loaded: SurfaceModel, iv: Tensor, generator: torch.Generator) -> float:
    """Largest difference of surfaces completed from some known points of iv [surface, tenor, node]."""
    seen = completion.keep_random_points(iv.double().flatten(1), _KNOWN, generator).unflatten(1, iv.shape[1:])
    interpolator = QuoteInterpolator(loaded.grid)
    largest = 0.0
    for surface, market in zip(seen, itertools.cycle((None, *prior.markets)), strict=False):
        found = loaded.complete(surface.numpy(), market=market, weight=1.0)
        known = ~surface.isnan()
        k = torch.from_numpy(loaded.grid.log_moneyness_of(surface.numpy())).expand(surface.shape)[known]
        tenor = torch.from_numpy(np.array(loaded.grid.tenors)).unsqueeze(1).expand(surface.shape)[known]
        quotes = completion.Quotes(k, tenor, surface[known], torch.ones_like(k))
        with torch.no_grad():
            expected, _ = completion.complete_quotes(
                model, interpolator, quotes, None if market is None else prior.in_market(market)
            )
        largest = max(largest, float(np.abs(found.iv.ravel() - expected.mean[0].numpy()).max()))
    return largest


def _variants(bundle: Path, latents: NDArray[np.float32], expected: NDArray[np.float64]) -> dict[str, float]:
    """Largest differences of the decoder in half precision and with TF32, where the bundle or the machine has them."""
    found = {}
    if (bundle / HALF_DECODER).exists():
        half = SurfaceModel.load(bundle, half=True, check_signature=False)
        found["fp16_decoder_max_bp"] = BASIS_POINTS * float(np.abs(half.decode(latents) - expected).max())
    if torch.cuda.is_available():
        rounded = SurfaceModel.load(bundle, provider="cuda", tf32=True, check_signature=False)
        found["tf32_decoder_max_bp"] = BASIS_POINTS * float(np.abs(rounded.decode(latents) - expected).max())
    return found


def _generator(params: ExportParams) -> torch.Generator:
    return torch.Generator().manual_seed(params.seed)


def _check(figures: Mapping[str, float], params: ExportParams) -> None:
    """Raise StageError for a figure above its tolerance, or one that is not a number."""
    limits = {
        **{f"parity_{name}_max_vol": "vol" for name in ("decoder", "sampler", "completer", "scenarios")},
        **{f"parity_{name}_max_relative": "relative" for name in ("decoder", "sampler", "completer")},
        "parity_encoder_max_in_stds": "latent",
    }
    for name, kind in limits.items():
        key = f"parity_tolerance_{kind}"
        limit = getattr(params, key)
        if name in figures and not figures[name] <= limit:
            raise StageError(f"{name} is {figures[name]:.3g}, above export.{key} = {limit:g}; no bundle was written")


def in_single_precision(model: Vae) -> Vae:
    """A copy of the model in single precision."""
    copy = Vae(model.architecture)
    copy.load_state_dict(model.state_dict())
    return copy.eval()
