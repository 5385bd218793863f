"""Shared by the commands: how an error ends a command, and options that several of them have."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click

from pipeline.errors import InputError, StageError

Parameters = ParamSpec("Parameters")

BUNDLE = Path("artifacts/bundle")


def one_line_errors(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Exit with 2 for what the user can mend and with 1 for a failure, each with one line on standard error."""

    @wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ModuleNotFoundError as error:
            _end(f"{error}; pip install 'volvae[pipeline,schedule]' has what this command needs", code=2)
        except (InputError, ValueError, ImportError) as error:
            _end(str(error), code=2)
        except StageError as error:
            _end(str(error), code=1)

    return run


def _end(message: str, *, code: int) -> None:
    click.echo(f"volvae: {message}", err=True)
    sys.exit(code)


bundle_option = click.option(
    "--bundle", type=click.Path(path_type=Path), default=BUNDLE, show_default=True, help="Folder of the model."
)
provider_option = click.option(
    "--provider",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    show_default=True,
    help="Where to run.",
)
