"""The command volvae. Each command imports what it needs when it is called, so that sampling needs no torch."""

import contextlib
import json
import os
import sys
import webbrowser
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from deploy.server import settings as serving
from pipeline import telemetry
from pipeline.errors import InputError, StageError

if TYPE_CHECKING:
    from pipeline.registry.registry import Registry
    from vae.runtime import Provider

Parameters = ParamSpec("Parameters")

_BUNDLE = Path("artifacts/bundle")


def _one_line_errors(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Exit with 2 for what the user can mend and with 1 for what failed, each said in one line."""

    @wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ModuleNotFoundError as error:
            click.echo(
                f"volvae: {error}; pip install 'volvae[pipeline,schedule]' has what this command needs", err=True
            )
            sys.exit(2)
        except (InputError, ValueError, ImportError) as error:
            click.echo(f"volvae: {error}", err=True)
            sys.exit(2)
        except StageError as error:
            click.echo(f"volvae: {error}", err=True)
            sys.exit(1)

    return run


def _conditions(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """Names and values of NAME=VALUE."""
    conditions = {}
    for value in values:
        name, _equals, number = value.partition("=")
        try:
            conditions[name] = float(number)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} must be NAME=NUMBER") from error
    return conditions


_bundle_option = click.option(
    "--bundle", type=click.Path(path_type=Path), default=_BUNDLE, show_default=True, help="Folder of the model."
)
_provider_option = click.option(
    "--provider",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    show_default=True,
    help="Where to run.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="volvae")
def main() -> None:
    """Implied-volatility surfaces from a variational autoencoder."""
    telemetry.switch_off()


@main.command(epilog="Example: volvae sample -n 1000 --seed 7 -o surfaces.parquet")
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
@_bundle_option
@_provider_option
@click.option(
    "--given",
    "conditions",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_conditions,
    help="What the surfaces should have, of the model's conditions; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@_one_line_errors
def sample(
    count: int,
    seed: int,
    output: Path,
    bundle: Path,
    provider: "Provider",
    conditions: dict[str, float],
    *,
    as_json: bool,
) -> None:
    """Draw surfaces from the model and write them to a file."""
    from pipeline.files import surface_tables
    from vae.runtime import SurfaceModel

    model = SurfaceModel.load(bundle, provider=provider)
    blocks = model.sample_blocks(count, seed=seed, conditions=conditions)
    hidden = not sys.stderr.isatty()
    with click.progressbar(
        blocks, length=-(-count // model.block), label="sample", file=sys.stderr, hidden=hidden
    ) as shown:
        surface_tables.write_surfaces(output, shown, model.grid, count=count)
    outcome = {"path": str(output), "surfaces": count, "seed": seed, "provider": model.provider}
    tenors, nodes = model.grid.shape
    text = f"{count:,} surfaces of {tenors} tenors x {nodes} nodes, seed {seed}, on {model.provider}: {output}"
    click.echo(json.dumps(outcome) if as_json else text)


@main.command(epilog="Example: volvae complete quotes.csv -o surface.csv --plot")
@click.argument("quotes", type=click.Path(path_type=Path))
@click.option("-o", "output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A .csv file.")
@click.option("--plot", is_flag=True, help="Write a page beside the output that shows the smiles and the quotes.")
@_bundle_option
@_provider_option
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@_one_line_errors
def complete(quotes: Path, output: Path, bundle: Path, provider: "Provider", *, plot: bool, as_json: bool) -> None:
    """Complete a surface from quotes.

    Columns: iv; tenor_years or days; log_moneyness, call_delta, or strike and forward; weight if there is one.
    """
    from pipeline.cli import complete_quotes as command
    from pipeline.files.atomic import new_file
    from vae.runtime import SurfaceModel

    if output.suffix != ".csv":
        raise InputError(f"{output} must end in .csv")
    read = command.read(quotes)
    model = SurfaceModel.load(bundle, provider=provider)
    found = command.run(model, read)
    content = command.page(model, read, found).encode() if plot else b""
    command.write(output, model, found)
    outcome = command.figures(read, found) | {"path": str(output)}
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


@main.command(epilog="Example: volvae score surfaces.parquet -o scores.csv")
@click.argument("surfaces", type=click.Path(path_type=Path))
@click.option("-o", "output", type=click.Path(path_type=Path, dir_okay=False), help="A .csv file with a row a surface.")
@_bundle_option
@_provider_option
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@_one_line_errors
def score(surfaces: Path, output: Path | None, bundle: Path, provider: "Provider", *, as_json: bool) -> None:
    """Say how likely surfaces are, on the model's grid: the odd ones stand out."""
    from pipeline.cli import score as command
    from pipeline.files import surface_tables
    from vae.runtime import SurfaceModel

    if output is not None and output.suffix != ".csv":
        raise InputError(f"{output} must end in .csv")
    model = SurfaceModel.load(bundle, provider=provider)
    iv = surface_tables.read_on_grid(surfaces, model.grid)
    scores = model.score(iv)
    if output is not None:
        command.write(output, scores)
    outcome = command.figures(scores)
    text = (
        f"{outcome['surfaces']:,} surfaces, median {outcome['median_nats']:,.1f} nats, lowest "
        f"{outcome['lowest_nats']:,.1f} (surface {outcome['lowest_surface']}); {outcome['odd_surfaces']:,} are odder "
        f"than 99 % of the training surfaces"
    )
    click.echo(json.dumps(outcome) if as_json else text)


@main.command(epilog="Example: volvae doctor")
@_bundle_option
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@_one_line_errors
def doctor(bundle: Path, *, as_json: bool) -> None:
    """Check versions, providers, threads, telemetry, and the bundle with one call of each graph."""
    from pipeline.cli import doctor as command

    found = command.findings(bundle)
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in found], indent=2))
    else:
        for finding in found:
            click.echo(f"{'FAULT' if finding.fault else 'ok':6}{finding.name:12}{finding.text}")
    sys.exit(1 if any(finding.fault for finding in found) else 0)


@main.command(epilog="Example: volvae arbitrage surfaces.parquet")
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
    default=_BUNDLE,
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
@_one_line_errors
def arbitrage(surfaces: Path, tolerance: float, bundle: Path, results: Path, *, as_json: bool) -> None:
    """Measure static arbitrage in surfaces that `volvae sample` wrote: how often, how large, where."""
    from pipeline.cli import arbitrage_table
    from pipeline.files import surface_tables
    from vae.surface import arbitrage

    if surfaces.suffix == ".npy":
        from vae.runtime import SurfaceModel

        grid = SurfaceModel.load(bundle, provider="cpu").grid
        iv = surface_tables.read_array(surfaces, grid)
    else:
        iv, grid = surface_tables.read_surfaces(surfaces)
    with click.progressbar(
        arbitrage.violation_blocks(iv, grid),
        length=arbitrage.block_count(len(iv)),
        label="arbitrage",
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
    ) as shown:
        found = arbitrage.join(shown)
    figures = arbitrage_table.figures(found, grid, tolerance=tolerance, data=arbitrage_table.read_data_rates(results))
    click.echo(json.dumps(figures, indent=2) if as_json else arbitrage_table.text(figures, results))


@main.command(epilog="Example: volvae report --open")
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option("--open", "in_browser", is_flag=True, help="Open the evaluation report in a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@_one_line_errors
def report(results: Path, *, in_browser: bool, as_json: bool) -> None:
    """Say how good the model is and where everything lies."""
    from pipeline.report import text

    figures = text.read(results)
    click.echo(json.dumps(figures, indent=2) if as_json else text.text(figures, results, _BUNDLE))
    if in_browser:
        webbrowser.open((results / "report.html").absolute().as_uri())


@contextlib.contextmanager
def _registry() -> Iterator["Registry"]:
    """The registry that params.yaml names."""
    from pipeline.registry import registry
    from pipeline.settings.params import read_params

    settings = read_params().register_
    with registry.opened(model=settings.model, experiment=settings.experiment) as models:
        yield models


@main.command(epilog="Example: volvae promote 3")
@click.argument("version", default="challenger")
@click.option("--force", is_flag=True, help="Even if the gate refused it.")
@_one_line_errors
def promote(version: str, *, force: bool) -> None:
    """Make VERSION, a number or an alias, the champion; the challenger where none is given."""
    with _registry() as models:
        found = models.find(version)
        if found.refused is not None and not force:
            raise InputError(
                f"{models.model} version {found.number} was refused: {found.refused}; --force promotes it all the same"
            )
        former = models.promote(found)
    after = f", after version {former.number}" if former else ""
    click.echo(f"{models.model} version {found.number} is champion{after}")


@main.command(epilog="Example: volvae rollback")
@_one_line_errors
def rollback() -> None:
    """Make the champion's predecessor champion again."""
    with _registry() as models:
        left, former = models.roll_back()
    click.echo(f"{models.model} version {former.number} is champion again, after version {left.number}")


@main.command(epilog="Example: volvae fetch champion -o bundle")
@click.argument("version", default="champion")
@click.option("-o", "output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write.")
@_one_line_errors
def fetch(version: str, output: Path) -> None:
    """Write the bundle of VERSION, a number or an alias, to a folder; the champion where none is given."""
    folder = output.absolute()
    with _registry() as models:
        found = models.find(version)
        models.fetch(found, folder)
    click.echo(f"{models.model} version {found.number}: {output}")


@main.command(epilog="Example: volvae lineage champion")
@click.argument("version")
@click.option("-o", "output", type=click.Path(path_type=Path), help="Write its files to this new folder as well.")
@click.option("--check", is_flag=True, help="Compare what dvc.lock of this folder records; exit code 1 if it differs.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@_one_line_errors
def lineage(version: str, output: Path | None, *, check: bool, as_json: bool) -> None:
    """Say which code, data, settings and machine made VERSION, a number or an alias, and how to make it again."""
    from pipeline.registry import rebuild, registry

    folder = output and output.absolute()
    with _registry() as models:
        found = models.find(version)
        with models.files(found, registry.LINEAGE) as kept:
            told = rebuild.read(found, kept, model=models.model, store=models.store)
            if folder is not None:
                rebuild.write(kept, folder)
    if check:
        rebuild.check(told)
        click.echo(f"the outputs here are those of {told.model} version {told.version}")
    else:
        click.echo(json.dumps(told._asdict(), indent=2) if as_json else rebuild.text(told))


@main.group()
def flow() -> None:
    """Run the stages through Prefect."""


def _run_options(*, scheduled: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of a run; a scheduled one is clean and runs when needed unless told otherwise."""
    options = (
        click.option(
            "--clean/--in-place",
            default=scheduled,
            show_default=True,
            help="Work in a clean checkout of this folder's commit, in .scheduled, or in the folder itself.",
        ),
        click.option("--allow-dirty", is_flag=True, help="Run the commit even if the folder differs from it."),
        click.option("--pull", is_flag=True, help="`dvc pull` first."),
        click.option("--push", is_flag=True, help="`dvc push` at the end."),
        click.option(
            "--wait",
            "wait_seconds",
            type=click.FloatRange(min=0.0),
            default=0.0,
            metavar="SECONDS",
            help="How long to wait for another run in the same folder.",
        ),
        click.option(
            "--if-needed/--always",
            default=scheduled,
            show_default=True,
            help="Run only if the block retrain of params.yaml finds reason to.",
        ),
        click.option(
            "--notify", metavar="TYPE/NAME", help="Prefect block to tell of failures and refusals: webhook/NAME, ..."
        ),
        click.option(
            "--stage-minutes",
            type=click.FloatRange(min=0.0, min_open=True),
            metavar="MINUTES",
            help="How long a stage may take.",
        ),
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@flow.command(epilog="Example: volvae flow run --clean")
@_run_options(scheduled=False)
@_one_line_errors
def run(**parameters: object) -> None:
    """Run all stages once, one Prefect task each; without a server a temporary one is started."""
    from pipeline import flow

    click.echo(flow.run(**parameters))


@flow.command("serve", epilog='Example: volvae flow serve --cron "0 6 * * 1-5"')
@click.option("--cron", required=True, help="When: minute, hour, day, month, day of the week.")
@click.option("--timezone", metavar="ZONE", help="Such as Europe/London; UTC where none is given.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=4200,
    show_default=True,
    help="Of the Prefect server that is started on loopback where PREFECT_API_URL names none.",
)
@_run_options(scheduled=True)
@_one_line_errors
def serve_flow(cron: str, timezone: str | None, port: int, **parameters: object) -> None:
    """Run all stages on a schedule, until interrupted."""
    from pipeline import flow

    flow.serve(cron=cron, timezone=timezone, port=port, **parameters)


@main.command(epilog="Example: volvae serve --workers 2", context_settings={"auto_envvar_prefix": serving.ENVIRONMENT})
@click.option(
    "--model",
    default=str(_BUNDLE),
    show_default=True,
    metavar="FOLDER|models:/NAME@ALIAS",
    help="The model: a folder, or an alias in MLflow; a change is picked up.",
)
@serving.options
@_one_line_errors
def serve(model: str, **values: Any) -> None:  # noqa: ANN401 - the options of Settings, each checked by its type
    """Serve the model over HTTP: Open Inference Protocol v2, and routes to sample, complete and score.

    Each option can be set as VOLVAE_OPTION in the environment; VOLVAE_TOKEN is what requests must bear.
    """
    from deploy.server import run

    token = os.environ.get(f"{serving.ENVIRONMENT}_TOKEN")
    if model.startswith("models:/"):
        from pipeline.registry import alias_link

        with alias_link.mirrored(model, poll=values["poll"]) as folder:
            run.run(serving.Settings(folder, token=token, **values), wait=True)
    else:
        run.run(serving.Settings(Path(model).absolute(), token=token, **values))


@main.command("export-triton", epilog="Example: volvae export-triton models")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_bundle_option
@_one_line_errors
def export_triton(folder: Path, bundle: Path) -> None:
    """Write the model as a repository for NVIDIA's Triton server."""
    from deploy import triton
    from pipeline.files.atomic import new_folder

    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; name a new folder")
    with new_folder(folder) as fresh:
        names = triton.write(bundle, fresh)
    click.echo(f"{', '.join(names)}: {folder}")
