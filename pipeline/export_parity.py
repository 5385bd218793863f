"""Parity: by how much a bundle on the CPU differs from its model in torch, in double precision."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import StageError
from pipeline.files.motion_file import FittedMotion
from pipeline.files.trained_model import Prior
from pipeline.settings.export import ExportParams
from vae import runtime
from vae.bundle import HALF_DECODER, BundleError
from vae.dynamics.law import passed, scenarios
from vae.graphs import export, scorer
from vae.model import completion
from vae.model.autoencoder import Vae
from vae.model.quote_weights import QuoteInterpolator
from vae.runtime import SurfaceModel, VectorModel
from vae.surface.days import day_of
from vae.surface.units import BASIS_POINTS

_KNOWN = 40  # points from which surfaces are completed to compare
_PATHS, _STEPS = 200, 5  # of scenarios that are compared


def checked_parity(
    model: Vae, prior: Prior, motion: FittedMotion | None, bundle: Path, x: Tensor, settings: ExportParams
) -> dict[str, float]:
    """The figures of ``parity``, and those of scenarios where there is a law of motion.

    Raises:
        StageError: the bundle cannot be run, or a figure is above its tolerance or not a number.
    """
    try:
        figures = parity(model, prior, bundle, x, settings)
        if motion is not None:
            figures["parity_scenarios_max_vol"] = scenarios_parity(motion, model, bundle, seed=settings.seed)
    except BundleError as error:
        raise StageError(str(error)) from error
    _check(figures, settings)
    return figures


def parity(model: Vae, prior: Prior, bundle: Path, x: Tensor, settings: ExportParams) -> dict[str, float]:
    """Largest differences between the bundle on the CPU and ``model`` in double precision.

    Vols or points on random latents and on the codes of surfaces x [batch, tenor, node] or vectors [batch, D];
    posteriors and scores of those; samples at their own latents; completions from some points of the first ones, given
    each market in turn where it is a condition. Differences of vols are in vol, those of vectors in units of the
    largest number in x.
    """
    loaded = runtime.load(bundle, provider="cpu", check_signature=False)  # it is signed when it is registered
    unit, size = ("vol", 1.0) if isinstance(loaded, SurfaceModel) else ("relative", x.abs().max().item())
    generator = torch.Generator().manual_seed(settings.seed)
    random = torch.randn(settings.parity_samples, model.architecture.latents, generator=generator)
    values, mask = torch.nan_to_num(x.double()), (~x.isnan()).double() if model.architecture.sees_missing else None
    decoder = export.Decoder(model, loaded.layout.shape)
    with torch.no_grad():
        mean, std = (part.numpy() for part in export.Encoder(model)(values, mask))
        latents = torch.cat((random, torch.from_numpy(mean).float()))
        expected = decoder(latents.double()).numpy()
        some = None if mask is None else mask[: settings.parity_scores]
        expected_scores = scorer.scored(model, values[: settings.parity_scores], some)
    encoded, scored = loaded.encode(x.numpy()), loaded.score(x[: settings.parity_scores].numpy())
    difference = np.abs(encoded.mean - mean)
    completed = x[: settings.parity_completions]
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
        f"parity_sampler_max_{unit}": _sampler_parity(model, loaded, settings) / size,
        f"parity_completer_max_{unit}": completer / size,
        "parity_scorer_max_nats": float(np.abs(scored.nats - expected_scores.nats.numpy()).max()),
        "parity_scorer_error_max_in_stds": float(np.abs(scored.error - expected_scores.error.numpy()).max()),
        "parity_samples": len(latents),
        **(_variants(bundle, latents.numpy(), expected) if isinstance(loaded, SurfaceModel) else {}),
    }


def _sampler_parity(model: Vae, loaded: SurfaceModel | VectorModel, settings: ExportParams) -> float:
    """Largest difference of samples from those decoded from the latents and scores that the sampler returns too."""
    drawn, latents, scores = loaded.drawn(loaded.request(settings.parity_samples, settings.seed))
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


def scenarios_parity(motion: FittedMotion, model: Vae, bundle: Path, *, seed: int) -> float:
    """Largest difference of vols of scenarios of the bundle from those of the law, in double precision."""
    drawn = SurfaceModel.load(bundle, provider="cpu", check_signature=False).scenarios(n=_PATHS, days=_STEPS, seed=seed)
    days = [motion.date, *(day_of(date) for date in drawn.dates)]
    found = scenarios(motion.law, motion.state, passed(np.array(days)), drawn.shocks)
    with torch.no_grad():
        expected = model.expand(torch.from_numpy(found.coordinates)).numpy()
    return float(np.abs(drawn.iv.reshape(expected.shape) - expected).max())


def _check(figures: Mapping[str, float], settings: ExportParams) -> None:
    """Raise StageError for a figure above its tolerance, or one that is not a number."""
    limits = {
        **{f"parity_{name}_max_vol": "vol" for name in ("decoder", "sampler", "completer", "scenarios")},
        **{f"parity_{name}_max_relative": "relative" for name in ("decoder", "sampler", "completer")},
        "parity_encoder_max_in_stds": "latent",
    }
    for name, kind in limits.items():
        key = f"parity_tolerance_{kind}"
        limit = getattr(settings, key)
        if name in figures and not figures[name] <= limit:
            raise StageError(f"{name} is {figures[name]:.3g}, above export.{key} = {limit:g}; no bundle was written")
