"""The results of a run as a short text: figures, paths of the files, next commands."""

import json
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.market_figures import name_of
from pipeline.report.opponent_table import best, whole_beside_pca
from pipeline.stages import STAGES
from vae.surface.units import OWN, VOL_BP, Unit


def read(results: Path) -> dict[str, dict[str, Any]]:
    """The figures of every stage.

    Raises:
        InputError: a stage has not run.
    """
    figures = {}
    for stage in STAGES:
        path = results / f"{stage}.json"
        try:
            figures[stage] = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); `make run` or `dvc repro` makes it") from error
    return figures


def text(figures: dict[str, dict[str, Any]], results: Path, bundle: Path) -> str:
    """The main figures, the paths of all results and the commands to use next."""
    evaluate, export, register = (figures[stage] for stage in ("evaluate", "export", "register"))
    of_surfaces = "reconstruction_rmse_bp" in evaluate
    return f"""\
{_of_surfaces(evaluate, export) if of_surfaces else _of_vectors(evaluate, export)}

report           {results / "report.html"}
metrics          {results}/*.json, `dvc metrics show`, `dvc plots show`
bundle           {bundle}
registered       {register["model"]} version {register["version"]}, in {register["store"]}
gate             {register["verdict"]}, champion is {register["champion"]}: {register["reason"]}

next             volvae sample -n 1000 --seed 7 -o {"surfaces" if of_surfaces else "vectors"}.parquet
                 volvae report --open
                 mlflow ui --backend-store-uri {register["store"]}
                 edit params.yaml, then dvc repro"""


def _of_surfaces(evaluate: dict[str, Any], export: dict[str, Any]) -> str:
    """The main figures of a model of surfaces."""
    latents, pca = (evaluate[f"{name}_reconstruction_rmse_bp"] for name in ("latent", "pca"))
    rates = ", ".join(f"{name} {evaluate[f'{name}_arbitrage_free_rate']:.2%}" for name in _SURFACES)
    bound = f"{evaluate['elbo_nats']:,.1f} +- {evaluate['elbo_se_nats']:.1f} nats a surface{_exact(evaluate)}"
    linear = (
        f"; best linear opponent {evaluate['opponent_log_likelihood_nats']:,.1f}"
        if "opponent_log_likelihood_nats" in evaluate
        else ""
    )
    return f"""\
reconstruction   {evaluate["reconstruction_rmse_bp"]:.2f} bp of vol, held out{_whole(evaluate, VOL_BP, ".2f")}
latents alone    {latents:.2f} bp (PCA with as many: {pca:.2f})
{_completion(evaluate)}{_markets(evaluate)}ELBO             {bound}
bound            {evaluate["iwae_nats"]:,.1f} nats, importance-weighted{linear}
latents          {evaluate["active_units"]} of {evaluate["latents"]} active
{_samples(evaluate)}arbitrage-free   {rates}
ONNX and torch   {export["parity_decoder_max_vol"]:.1g} vol apart at most"""


def _of_vectors(evaluate: dict[str, Any], export: dict[str, Any]) -> str:
    """The main figures of a model of vectors, in the units of its data."""
    latents, pca = (evaluate[f"{name}_reconstruction_rmse"] for name in ("latent", "pca"))
    elbo = f"{evaluate['elbo_nats']:,.1f} +- {evaluate['elbo_se_nats']:.1f} nats a vector"
    bound = f"{evaluate['iwae_nats']:,.1f} nats, importance-weighted"
    for name, title in (
        ("opponent_log_likelihood_nats", "best linear opponent"),
        ("independent_log_likelihood_nats", "each point alone"),
    ):
        bound += f"; {title} {evaluate[name]:,.1f}" if name in evaluate else ""
    return f"""\
reconstruction   {evaluate["reconstruction_rmse"]:.4g} off, held out{_whole(evaluate, OWN, ".4g")}
latents alone    {latents:.4g} (PCA with as many: {pca:.4g})
{_vector_completion(evaluate)}ELBO             {elbo}
bound            {bound}
latents          {evaluate["active_units"]} of {evaluate["latents"]} active
{_samples(evaluate)}ONNX and torch   {export["parity_decoder_max_relative"]:.1g} of the largest number apart at most"""


def _vector_completion(evaluate: dict[str, Any]) -> str:
    """How well vectors are completed from ten points; empty where it was not measured."""
    if "completion_log_loss_nats_10" in evaluate:
        lost = evaluate["completion_log_loss_nats_10"]
        return f"completion       {lost:.3f} nats lost on a hidden point, from 10 random ones (a fair coin: 0.693)\n"
    if "opponent_completion_hidden_mae_10" not in evaluate:
        return ""
    ours, linear = (evaluate[f"{name}completion_hidden_mae_10"] for name in ("", "opponent_"))
    held = f"; 90 % intervals hold {evaluate['interval_coverage_90']:.1%}" if "interval_coverage_90" in evaluate else ""
    return (
        f"completion       {ours:.4g} off at hidden points from 10 random ones (best linear opponent, "
        f"{best(evaluate, 'completion_hidden_mae_10')}: {linear:.4g}){held}\n"
    )


def _whole(evaluate: dict[str, Any], unit: Unit, style: str) -> str:
    """PCA of as many numbers as the whole reconstruction, in brackets; empty where these are the latents alone."""
    beside = whole_beside_pca(evaluate, unit, style)
    return f" ({beside})" if beside else ""


def _completion(evaluate: dict[str, Any]) -> str:
    """The error of completion from ten points at the others; empty where it was not measured."""
    if "opponent_completion_hidden_mae_bp_10" not in evaluate:
        return ""
    ours, linear = (evaluate[f"{name}completion_hidden_mae_bp_10"] for name in ("", "opponent_"))
    opponent = best(evaluate, "completion_hidden_mae_bp_10")
    return (
        f"completion       {ours:.1f} bp at hidden points from 10 random ones (best linear opponent, {opponent}: "
        f"{linear:.1f}); 90 % intervals hold {evaluate['interval_coverage_90']:.1%}\n"
    )


def _markets(evaluate: dict[str, Any]) -> str:
    """The error of completion from ten points of each market, by its name among the figures; empty without markets."""
    errors = {
        name.removeprefix(_OF_A_MARKET): value for name, value in evaluate.items() if name.startswith(_OF_A_MARKET)
    }
    return (
        f"by market        {', '.join(f'{name} {error:.1f} bp' for name, error in errors.items())}\n" if errors else ""
    )


def _samples(evaluate: dict[str, Any]) -> str:
    """How far samples are from data, and how far two samples of data are; empty where there were too few."""
    if "sample_energy_distance" not in evaluate:
        return ""
    distance, right = (
        _beside_floor(evaluate, *figure) for figure in (("energy_distance", ".1e"), ("boosting_accuracy", ".1%"))
    )
    found = f"samples          energy distance {distance}, boosting is right {right} of the time\n"
    if "drift_energy_distance" in evaluate:
        drift, to_test = (f"{evaluate[f'{name}_energy_distance']:.1e}" for name in ("drift", "sample_to_test"))
        found += (
            f"drift            energy distance {drift} from training to test period, {to_test} from samples to it\n"
        )
    if "sample_outside_box_rate" in evaluate:
        outside, control = (evaluate[f"{name}_outside_box_rate"] for name in ("sample", "reconstruction"))
        found += (
            f"outside the box  {outside:.1%} of samples by more than 2 % of a side (reconstructions {control:.1%})\n"
        )
    return found


def _beside_floor(evaluate: dict[str, Any], figure: str, style: str) -> str:
    """A figure of samples with its standard error, and that of two samples of data."""
    value, error, floor = (evaluate[name] for name in (f"sample_{figure}", f"sample_{figure}_se", f"floor_{figure}"))
    return f"{value:{style}} +- {error:{style}} (data {floor:{style}})"


def _exact(evaluate: dict[str, Any]) -> str:
    """The distance to the exact log-likelihood, where the distribution of the data is known."""
    gap = evaluate.get("elbo_gap_to_oracle_nats")
    return "" if gap is None else f", {gap:.1f} below the exact log-likelihood"


_OF_A_MARKET = name_of("completion_mae_bp_10", "")
_SURFACES = ("data", "reconstruction", "sample")
