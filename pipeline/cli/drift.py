"""The command that says whether data drift from what the champion learned."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.common import check_not_read, json_option, json_text, one_line_errors, option_of_bundle
from pipeline.cli.quotes_options import ReadingOptions, reading_options
from pipeline.errors import InputError, shown

if TYPE_CHECKING:
    from pipeline.report.drift import Watched
    from pipeline.settings.params import Params
    from vae.runtime import SurfaceModel, VectorModel


@click.command(short_help="Say whether data drift from what the champion learned.", epilog="Example: volvae drift")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@reading_options
@option_of_bundle("Folder of a model, in place of the champion.", default=None)
@click.option(
    "--surfaces",
    type=click.Path(path_type=Path),
    default=Path("data/surfaces"),
    show_default=True,
    help="Folder of the data whose test dates are shown beside, where it exists.",
)
@click.option(
    "-o", "output", type=click.Path(path_type=Path), help="The page; drift.html beside the report by default."
)
@json_option
@one_line_errors
def drift(
    file: Path | None,
    reading: ReadingOptions,
    bundle: Path | None,
    surfaces: Path,
    output: Path | None,
    *,
    as_json: bool,
) -> None:
    """Score the surfaces of FILE by the champion, and write a page with the score of each date.

    FILE is read as by `volvae score`; by default it is retrain.incoming of params.yaml, which is read as by a scheduled
    run: quotes by prepare.quotes. The share of unlikely surfaces is the figure by which a scheduled run decides on
    drift. With FILE and --bundle no params.yaml is needed, and one of another project is not read; 5 % may then be
    unlikely.
    """
    from pipeline.files import formats
    from pipeline.report import drift as judged
    from pipeline.report.verdict import DRIFT
    from pipeline.settings.params import read_if_all, read_params

    params = read_params() if file is None or bundle is None else read_if_all()
    watched = None if params is None else params.retrain.incoming
    file = file or (None if watched is None else Path(watched))
    if file is None:
        raise InputError("no FILE is given, and retrain.incoming of params.yaml names none; name the newer surfaces")
    output = output or Path("results") / DRIFT
    check_not_read(output, file)
    name, model = _model(bundle)
    incoming = _incoming(model, file, reading, params)
    rule = judged.Rule()
    if params is not None:
        rule = judged.Rule(params.retrain.odd_share, "drift" in params.retrain.when)
    test = judged.of_test_split(model, surfaces, motion=True)
    formats.write_bytes(output, judged.drift_page(name, test, incoming, rule).encode())
    share, line = judged.unlikely_share(incoming.scores), judged.text(incoming, rule)
    figures = {"surfaces": len(incoming.scores.nats), "odd_share": share, "allowed": rule.allowed_share}
    if incoming.motion is not None:
        figures |= judged.motion_figures(test, incoming)
    drifts = None if share is None else share > rule.allowed_share
    click.echo(json_text({**figures, "drift": drifts, "page": str(output)}) if as_json else f"{line}: {shown(output)}")


def _model(bundle: Path | None) -> "tuple[str, SurfaceModel | VectorModel]":
    """The model of a bundle, or the champion, with its name."""
    from pipeline.cli.versions import opened_registry
    from pipeline.registry.registry import CHAMPION
    from vae import runtime

    if bundle is not None:
        return str(bundle), runtime.load(bundle, provider="cpu")
    with opened_registry() as models:
        champion = models.find(CHAMPION)
        return f"{models.model} version {champion.number}", models.load(champion)


def _incoming(
    model: "SurfaceModel | VectorModel", file: Path, reading: ReadingOptions, params: "Params | None"
) -> "Watched":
    """The scores of a file. The file that scheduled runs watch is read as they read it, unless an option says how."""
    from pipeline.cli import surface_files
    from pipeline.files import surface_tables
    from pipeline.report import motion_drift
    from pipeline.report.drift import Watched
    from pipeline.runs import trigger
    from vae.runtime import VectorModel

    prepare, named = (None, None) if params is None else (params.prepare, params.retrain.incoming)
    watched_by_runs = named is not None and file.absolute() == Path(named).absolute()
    if isinstance(model, VectorModel) or (watched_by_runs and not any(reading)):
        return trigger.watched(model, file, prepare, motion=True)
    found = surface_files.read(file, reading, lambda: model.grid)
    surface_tables.check_grid(file, found.grid, model.grid)
    price = found.conditions.get(motion_drift.underlying_of(model) or "")
    dates = None if found.days is None else motion_drift.Dates(found.iv, found.days, price, found.markets)
    return Watched(model.score(found.iv), found.days, found.titles, motion_drift.of_incoming(model, dates))
