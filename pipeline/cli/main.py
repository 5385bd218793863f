"""The command volvae. A command imports what it needs when it is called, so that sampling needs no torch."""

import json
import sys
import webbrowser
from pathlib import Path

import click

from pipeline import openmp, telemetry
from pipeline.cli import demo, drift, flow, own_data, risk, scenarios, serve, surfaces, versions
from pipeline.cli.common import BUNDLE, bundle_option, json_option, one_line_errors, results_option
from pipeline.cli.sections import Sections
from pipeline.errors import shown_message


@click.group(cls=Sections, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="volvae")
def main() -> None:
    """Implied-volatility surfaces from a variational autoencoder.

    First step: `volvae demo` shows a small trained model. `make run` trains one of full size.
    """
    telemetry.switch_off()
    openmp.bound_threads()


@click.command(short_help="Check this environment and the bundle.", epilog="Example: volvae doctor")
@bundle_option
@json_option
@one_line_errors
def doctor(bundle: Path, *, as_json: bool) -> None:
    """Check versions, providers, threads, telemetry, and the bundle with one call of each graph."""
    from pipeline.cli.doctor import findings

    found = findings(bundle)
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in found], indent=2))
    else:
        for finding in found:
            click.echo(f"{'FAULT' if finding.fault else 'ok':6}{finding.name:12}{shown_message(finding.text)}")
    sys.exit(1 if any(finding.fault for finding in found) else 0)


@click.command(epilog="Example: volvae report --open")
@results_option
@click.option("--open", "in_browser", is_flag=True, help="Open the evaluation report in a browser.")
@json_option
@one_line_errors
def report(results: Path, *, in_browser: bool, as_json: bool) -> None:
    """Say how good the model is and where everything lies."""
    from pipeline.report import text

    figures = text.read(results)
    click.echo(json.dumps(figures, indent=2) if as_json else text.text(figures, results, BUNDLE))
    if in_browser:
        webbrowser.open((results / "report.html").absolute().as_uri())


for title, commands in {
    "Start": (demo.demo, doctor),
    "Use a model": (
        surfaces.sample,
        surfaces.complete,
        surfaces.score,
        surfaces.arbitrage,
        scenarios.scenarios,
        risk.risk,
    ),
    "Train on data of your own": (own_data.inspect, own_data.init, own_data.check),
    "See results and choose a version": (
        report,
        drift.drift,
        versions.compare,
        versions.lineage,
        versions.promote,
        versions.rollback,
        versions.fetch,
        versions.history,
        versions.sign,
        versions.verify,
    ),
    "Serve and schedule": (serve.serve, serve.export_triton, flow.flow),
}.items():
    main.add_section(title, commands)
