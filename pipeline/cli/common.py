"""Shared by the commands: how an error ends a command, and options that several of them have."""

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from importlib.metadata import requires
from pathlib import Path
from typing import Any, ParamSpec

import click

from pipeline.errors import InputError, StageError, shown_message

Parameters = ParamSpec("Parameters")

BUNDLE, DEMO = Path("artifacts/bundle"), Path("demo/bundle")
# of modules whose names their distributions do not begin with
_DISTRIBUTIONS = {"google": "protobuf", "grpc": "grpcio", "sklearn": "scikit-learn"}


def one_line_errors(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Exit with 2 for what the user can mend and with 1 for a failure, each with one line on standard error."""

    @wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ModuleNotFoundError as error:
            _end(f"{error}{_remedy(error.name or '')}", code=2)
        except InputError as error:
            _end(error, code=2)
        except (ValueError, ImportError) as error:
            _end(f"{error}{where_bundles_come_from(error)}", code=2)
        except StageError as error:
            _end(error, code=1)
        except MemoryError as error:
            _end(f"memory ran out: {error or 'a file is too large for this machine'}", code=1)

    return run


def _end(message: str | Exception, *, code: int) -> None:
    click.echo(f"volvae: {shown_message(message)}", err=True)
    sys.exit(code)


def where_bundles_come_from(error: Exception) -> str:
    """How to get a bundle, where the error is that there is none."""
    from vae.bundle import NoBundleError

    if not isinstance(error, NoBundleError):
        return ""
    small = f"{DEMO} is that of the demo" if DEMO.exists() else f"`volvae demo` writes a small one to {DEMO}"
    return f"; `make run` trains one, {small}"


def _remedy(module: str) -> str:
    """How to install the missing module; empty if no extra of volvae requires it."""
    extras = [f"'volvae[{extra}]'" for extra in extras_with(module, requires("volvae") or ())]
    return f"; pip install {' or '.join(extras)} has what this command needs" if extras else ""


def extras_with(module: str, requirements: Iterable[str]) -> list[str]:
    """The extras that require a module's distribution, the smallest first.

    Args:
        module: dotted name of the module.
        requirements: of volvae, each with its extra in the marker, as ``importlib.metadata.requires`` returns them.
    """
    top = module.partition(".")[0]
    name = _DISTRIBUTIONS.get(top, top).replace("_", "-").lower()
    members: dict[str, list[str]] = {}
    for requirement in requirements:
        extra = re.search(r"""extra == ["']([\w-]+)["']""", requirement)
        distribution = re.match(r"[\w.-]+", requirement)
        if extra and distribution:
            members.setdefault(extra[1], []).append(re.sub(r"[._]", "-", distribution[0]).lower())
    found = [extra for extra, names in members.items() if any(f"{n}-".startswith(f"{name}-") for n in names)]
    return sorted((extra for extra in found if extra != "dev"), key=lambda extra: len(members[extra]))


Command = Callable[..., None]


class Finite(click.FloatRange):
    """A number in a range, any by default; click takes nan as one of every range, and infinity as one of some."""

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number of an argument."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:
        return "" if self.min is None and self.max is None else super()._describe_range()  # click says x<=None


def check_ending(output: Path | None, ending: str) -> None:
    """Raise InputError where a file that a command would write has a name for another format."""
    if output is not None and output.suffix != ending:
        raise InputError(f"{output} must end in {ending}")


def check_not_read(output: Path | None, *read: Path | None) -> None:
    """Raise InputError where a command would write over a file that it reads, under whatever name of it."""
    for path in read:
        if output is not None and path is not None and output.exists() and path.exists() and output.samefile(path):
            raise InputError(f"{output} is the file that is read, which would be lost: name another one by -o")


def option_of_bundle(use: str, *, default: Path | None = BUNDLE) -> Callable[[Command], Command]:
    """The option that names a bundle.

    Args:
        use: what it is for, a sentence of the help.
        default: the folder, or None for another model than that of a folder.
    """
    return click.option(
        "--bundle", type=click.Path(path_type=Path), default=default, show_default=default is not None, help=use
    )


def json_text(value: object, *, indent: int | None = None) -> str:
    """The result of a command as JSON, which has neither NaN nor infinity: null in their place."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: object) -> Any:  # noqa: ANN401 - what it got
    """The same value with None for each number that is not finite."""
    from pipeline.files.formats import finite_or_none

    if isinstance(value, float):
        return finite_or_none(value)
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    show_default=True,
    help="The same seed gives the same numbers.",
)
bundle_option = option_of_bundle("Folder of the model.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
results_option = click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder of the evaluation.",
)
provider_option = click.option(
    "--provider",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    show_default=True,
    help="Where to run.",
)
