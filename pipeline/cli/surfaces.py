"""Commands on surfaces: draw them, complete them from quotes, score them, measure their static arbitrage."""

import json
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from pipeline.cli.common import BUNDLE, bundle_option, one_line_errors, provider_option
from pipeline.errors import InputError

if TYPE_CHECKING:
    from vae.runtime import Provider, Scores

Item = TypeVar("Item")

_ODD = 1.0  # percentile below which a surface is odd


def _conditions(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """Numbers by name, from arguments of the form NAME=VALUE."""
    conditions = {}
    for value in values:
        name, _equals, number = value.partition("=")
        try:
            conditions[name] = float(number)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} must be NAME=NUMBER") from error
    return conditions


@click.command(epilog="Example: volvae sample -n 1000 --seed 7 -o surfaces.parquet")
@click.option("-n", "count", type=click.IntRange(1, 2**50), default=1000, show_default=True, help="Number of surfaces.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    show_default=True,
    help="The same seed gives the same file.",
)
@click.option(
    "-o",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="A .parquet or .npy file.",
)
@bundle_option
@provider_option
@click.option(
    "--given",
    "conditions",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_conditions,
    help="What the surfaces should have, of the model's conditions; may be repeated.",
)
@click.option("--market", help="A market of the model; all of them by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@one_line_errors
def sample(
    count: int,
    seed: int,
    output: Path,
    bundle: Path,
    provider: "Provider",
    conditions: dict[str, float],
    market: str | None,
    *,
    as_json: bool,
) -> None:
    """Draw surfaces from the model and write them to a file."""
    from pipeline.files import surface_tables
    from vae.runtime import SurfaceModel

    model = SurfaceModel.load(bundle, provider=provider)
    blocks = model.sample_blocks(count, seed=seed, conditions=conditions, market=market)
    with _progress(blocks, length=-(-count // model.block), label="sample") as shown:
        surface_tables.write_surfaces(output, shown, model.grid, count=count)
    outcome = {"path": str(output), "surfaces": count, "seed": seed, "provider": model.provider}
    tenors, nodes = model.grid.shape
    text = f"{count:,} surfaces of {tenors} tenors x {nodes} nodes, seed {seed}, on {model.provider}: {output}"
    click.echo(json.dumps(outcome) if as_json else text)


@click.command(epilog="Example: volvae complete quotes.csv -o surface.csv --plot")
@click.argument("quotes", type=click.Path(path_type=Path))
@click.option("-o", "output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A .csv file.")
@click.option("--plot", is_flag=True, help="Write a page beside the output that shows the smiles and the quotes.")
@bundle_option
@provider_option
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@one_line_errors
def complete(quotes: Path, output: Path, bundle: Path, provider: "Provider", *, plot: bool, as_json: bool) -> None:
    """Complete a surface from quotes.

    Columns: iv; tenor_years or days; log_moneyness, call_delta, or strike and forward; weight if there is one.
    """
    from pipeline.cli import complete_quotes
    from pipeline.files.atomic import new_file
    from vae.runtime import SurfaceModel

    if output.suffix != ".csv":
        raise InputError(f"{output} must end in .csv")
    read = complete_quotes.read(quotes)
    model = SurfaceModel.load(bundle, provider=provider)
    found = complete_quotes.run(model, read)
    content = complete_quotes.page(model, read, found).encode() if plot else b""
    complete_quotes.write(output, model, found)
    outcome = complete_quotes.figures(read, found) | {"path": str(output)}
    text = (
        f"{outcome['quotes_used']} of {outcome['quotes']} quotes used, {outcome['quotes_mean_error_bp']:.1f} bp off on "
        f"average; standard deviation of a point {outcome['median_std_bp']:.1f} bp, at most "
        f"{outcome['largest_std_bp']:.1f} bp: {output}"
    )
    if plot:
        page = output.with_suffix(".html")
        with new_file(page) as stream:
            stream.write(content)
        outcome, text = outcome | {"plot": str(page)}, f"{text}, {page}"
    click.echo(json.dumps(outcome) if as_json else text)


@click.command(epilog="Example: volvae score surfaces.parquet -o scores.csv")
@click.argument("surfaces", type=click.Path(path_type=Path))
@click.option("-o", "output", type=click.Path(path_type=Path, dir_okay=False), help="A .csv file with a row a surface.")
@bundle_option
@provider_option
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@one_line_errors
def score(surfaces: Path, output: Path | None, bundle: Path, provider: "Provider", *, as_json: bool) -> None:
    """Say how likely surfaces are, on the model's grid: the odd ones stand out."""
    from pipeline.files import surface_tables
    from vae.runtime import SurfaceModel

    if output is not None and output.suffix != ".csv":
        raise InputError(f"{output} must end in .csv")
    model = SurfaceModel.load(bundle, provider=provider)
    iv = surface_tables.read_on_grid(surfaces, model.grid)
    scores = model.score(iv)
    if output is not None:
        _write_scores(output, scores)
    outcome = _score_figures(scores)
    text = (
        f"{outcome['surfaces']:,} surfaces, median {outcome['median_nats']:,.1f} nats, lowest "
        f"{outcome['lowest_nats']:,.1f} (surface {outcome['lowest_surface']}); {outcome['odd_surfaces']:,} are odder "
        f"than 99 % of the training surfaces"
    )
    click.echo(json.dumps(outcome) if as_json else text)


def _write_scores(path: Path, scores: "Scores") -> None:
    """One row for each surface as CSV: its number, counted from 0, nats and percentile."""
    from pipeline.files.csv_tables import write_csv

    ranked = zip(scores.nats.tolist(), scores.percentile.tolist(), strict=True)
    rows = [(number, f"{nats:.6g}", f"{percentile:.4g}") for number, (nats, percentile) in enumerate(ranked)]
    write_csv(path, ("surface", "nats", "percentile"), rows)


def _score_figures(scores: "Scores") -> dict[str, float]:
    """Counts, and the least likely surface."""
    import numpy as np

    ranked = scores.percentile[np.isfinite(scores.percentile)]
    return {
        "surfaces": len(scores.nats),
        "median_nats": float(np.median(scores.nats)),
        "lowest_nats": float(scores.nats.min()),
        "lowest_surface": int(scores.nats.argmin()),
        "odd_surfaces": int((ranked < _ODD).sum()),
        "unranked_surfaces": len(scores.nats) - len(ranked),
    }


@click.command(epilog="Example: volvae arbitrage surfaces.parquet")
@click.argument("surfaces", type=click.Path(path_type=Path))
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0.0),
    default=1e-6,
    show_default=True,
    help="What a trade may earn, in units of the forward.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    default=BUNDLE,
    show_default=True,
    help="Folder of the model; only a .npy file needs it, for the grid.",
)
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder of the evaluation that has the data's own rates.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@one_line_errors
def arbitrage(surfaces: Path, tolerance: float, bundle: Path, results: Path, *, as_json: bool) -> None:
    """Measure static arbitrage in surfaces that `volvae sample` wrote: how often, how large, where."""
    from pipeline.cli import arbitrage_table
    from pipeline.files import surface_tables
    from vae.surface import arbitrage as checks

    if surfaces.suffix == ".npy":
        from vae.runtime import SurfaceModel

        grid = SurfaceModel.load(bundle, provider="cpu").grid
        iv = surface_tables.read_array(surfaces, grid)
    else:
        iv, grid = surface_tables.read_surfaces(surfaces)
    blocks = checks.violation_blocks(iv, grid)
    with _progress(blocks, length=checks.block_count(len(iv)), label="arbitrage") as shown:
        found = checks.join(shown)
    figures = arbitrage_table.figures(found, grid, tolerance=tolerance, data=arbitrage_table.read_data_rates(results))
    click.echo(json.dumps(figures, indent=2) if as_json else arbitrage_table.text(figures, results))


def _progress(blocks: Iterable[Item], *, length: int, label: str) -> AbstractContextManager[Iterable[Item]]:
    """The blocks, counted by a bar on standard error if that is a terminal."""
    return click.progressbar(blocks, length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())
