"""Commands that run the stages through Prefect."""

from collections.abc import Callable

import click

from pipeline.cli.common import Finite, one_line_errors


@click.group()
def flow() -> None:
    """Run the stages through Prefect."""


def _run_options(*, scheduled: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of a run; by default a scheduled run is clean and runs only when needed."""
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
            type=Finite(min=0.0),
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
            type=Finite(min=0.0, min_open=True),
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
@one_line_errors
def run(**parameters: object) -> None:
    """Run all stages once, one Prefect task each; without a server a temporary one is started."""
    from pipeline.flow import run as run_flow

    click.echo(run_flow(**parameters))


@flow.command(epilog='Example: volvae flow serve --cron "0 6 * * 1-5"')
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
@one_line_errors
def serve(cron: str, timezone: str | None, port: int, **parameters: object) -> None:
    """Run all stages on a schedule, until interrupted."""
    from pipeline.flow import serve as serve_flow

    serve_flow(cron=cron, timezone=timezone, port=port, **parameters)
