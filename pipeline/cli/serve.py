"""Commands that serve the model: over HTTP, or as files for NVIDIA's Triton server."""

import os
from pathlib import Path
from typing import Any

import click

from deploy.server import settings as serving
from pipeline.cli.common import BUNDLE, bundle_option, one_line_errors
from pipeline.errors import InputError


@click.command(
    short_help="Serve the model and its page over HTTP.",
    epilog="Example: volvae serve --workers 2",
    context_settings={"auto_envvar_prefix": serving.ENVIRONMENT},
)
@click.option(
    "--model",
    default=str(BUNDLE),
    show_default=True,
    metavar="FOLDER|models:/NAME@ALIAS",
    help="The model: a folder, or an alias in MLflow; a change is picked up.",
)
@serving.options
@one_line_errors
def serve(model: str, **values: Any) -> None:  # noqa: ANN401 - the options of Settings, each checked by its type
    """Serve the model over HTTP: Open Inference Protocol v2, and routes to sample, complete and score.

    Each option can be set as VOLVAE_OPTION in the environment; VOLVAE_TOKEN is what requests must bear, and
    the public key that VOLVAE_VERIFY_KEY names what must have signed the model.
    """
    from deploy.server import run
    from vae.bundle import verify_key

    verify_key()  # a wrong one ends the command; later it would be a line of the log, as for an alias without a version
    token = os.environ.get(f"{serving.ENVIRONMENT}_TOKEN")
    if model.startswith("models:/"):
        from pipeline.registry import alias_link

        with alias_link.mirrored(model, poll=values["poll"]) as folder:
            run.run(serving.Settings(folder, token=token, **values), wait=True)
    else:
        run.run(serving.Settings(Path(model).absolute(), token=token, **values))


@click.command("export-triton", epilog="Example: volvae export-triton models")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@bundle_option
@one_line_errors
def export_triton(folder: Path, bundle: Path) -> None:
    """Write the model as a repository for NVIDIA's Triton server."""
    from deploy import triton
    from pipeline.files.atomic import new_folder

    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; name a new folder")
    with new_folder(folder) as fresh:
        names = triton.write(bundle, fresh)
    click.echo(f"{', '.join(names)}: {folder}")
