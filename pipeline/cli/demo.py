"""The command demo: a small trained model and sample quotes, written to a folder, and its page served."""

import sys
from importlib.resources import files
from pathlib import Path

import click

from pipeline.cli.common import one_line_errors
from pipeline.errors import InputError, listed

_SHIPPED = Path(str(files("deploy"))) / "demo"
_PARTS = ("bundle", "bundle.md", "quotes")  # the second is the model card


@click.command(short_help="Show a small trained model, with quotes to complete.", epilog="Example: volvae demo")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"))
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port of the page.")
@one_line_errors
def demo(folder: Path, *, port: int) -> None:
    """Write a small trained model and sample quotes to FOLDER, demo by default, and serve its page.

    Model and quotes are of simulated Heston surfaces. A folder that has them already stays as it is.
    """
    from deploy.server import run, settings

    write(folder)
    click.echo(f"""\
{folder / "bundle"}   a small model of simulated Heston surfaces
{folder / "quotes"}   quotes of such surfaces, in four layouts
http://127.0.0.1:{port}   its page; Ctrl-C ends it

in another shell
{_activation()}  volvae complete {folder}/quotes/smile.csv --bundle {folder}/bundle -o surface.csv --plot
  volvae complete {folder}/quotes/chain.csv --date 2026-03-03 --bundle {folder}/bundle -o surface.csv --plot
  volvae sample -n 1000 --bundle {folder}/bundle -o surfaces.parquet
""")
    run.run(settings.Settings((folder / "bundle").absolute(), port=port))


def _activation() -> str:
    """The line by which another shell finds the command; empty outside of a virtual environment."""
    script = Path(sys.prefix) / "bin/activate"
    if not script.exists():
        return ""
    return f"  . {script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script}\n"


def write(folder: Path) -> None:
    """Copy the model and the quotes into a folder, without a change to what it has of them.

    Raises:
        InputError: the folder holds other files, or cannot be written.
    """
    from pipeline.files import formats
    from pipeline.files.atomic import copy_folder

    others = sorted(path.name for path in folder.iterdir() if path.name not in _PARTS) if folder.exists() else []
    if others:
        raise InputError(f"{folder} holds {listed(others)}; name another folder")
    for part in _PARTS:
        if (folder / part).exists():
            continue
        if (_SHIPPED / part).is_dir():
            copy_folder(_SHIPPED / part, folder / part)
        else:
            formats.write_bytes(folder / part, (_SHIPPED / part).read_bytes())
