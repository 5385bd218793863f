"""Commands that serve the model: over HTTP, or as files for NVIDIA's Triton server."""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click

from deploy.server import settings as serving
from pipeline.cli.common import BUNDLE, bundle_option, one_line_errors
from pipeline.errors import InputError, shown

_ALIAS = "models:/"


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
@click.option(
    "--challenger",
    metavar="FOLDER|models:/NAME@ALIAS",
    help="A model to compare with it on quotes of clients.",
)
@serving.options
@one_line_errors
def serve(model: str, challenger: str | None, **values: Any) -> None:  # noqa: ANN401 - the options of Settings, each checked by its type
    """Serve the model over HTTP: Open Inference Protocol v2, and routes to sample, complete and score.

    Each option can be set as VOLVAE_OPTION in the environment; VOLVAE_TOKEN is what requests must bear, and
    the public key that VOLVAE_VERIFY_KEY names what must have signed the model.
    """
    from deploy.server import run
    from vae.bundle import verify_key

    verify_key()  # here a wrong key ends the command; the server would only log it and wait
    token = os.environ.get(f"{serving.ENVIRONMENT}_TOKEN")
    if challenger and not challenger.startswith(_ALIAS) and not Path(challenger).is_dir():
        raise InputError(f"--challenger: there is no folder {challenger}; allowed: a bundle, or models:/NAME@ALIAS")
    rival = _folder(challenger, values["poll"]) if challenger else nullcontext()
    with _folder(model, values["poll"]) as bundle, rival as other:
        settings = serving.Settings(bundle, challenger=other, token=token, **values)
        run.run(settings, wait=model.startswith(_ALIAS))


def _folder(model: str, poll: float) -> AbstractContextManager[Path]:
    """The folder of a model; that of an alias follows it."""
    if not model.startswith(_ALIAS):
        return nullcontext(Path(model).absolute())
    from pipeline.registry import alias_link

    return alias_link.mirrored(model, poll=poll)


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
    click.echo(f"{', '.join(names)}: {shown(folder)}")
