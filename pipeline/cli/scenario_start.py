"""Where scenarios start: at the state of the bundle, a newer surface or a kept state. Options of several commands."""

import datetime as dt
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pipeline.cli.common import Finite
from pipeline.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vae.runtime import State, SurfaceModel


# root mean squares, in standard deviations of a day, of the distance from a file's surface to the model's
_NEAR, _FAR = 0.3, 2.0


class Start(NamedTuple):
    """The values of the options.

    Attributes:
        state: a file with the state that ``volvae complete`` keeps.
        surface: a file with one whole surface; None for a state.
        date: of the surface.
        log_return: of the underlying up to that date, where the law has one.
    """

    state: Path | None
    surface: Path | None
    date: dt.date | None
    log_return: float | None

    def of(self, model: "SurfaceModel") -> "State":
        """The state where scenarios start.

        Raises:
            InputError: a surface without date, a date or return without surface, a file with several surfaces, or one
                with no state of the model.
        """
        from pipeline.cli import kept_state
        from pipeline.files import surface_tables

        if self.surface is None:
            if self.date is not None or self.log_return is not None:
                raise InputError("--date and --log-return belong to a surface; name its file with --from")
            return model.state if self.state is None else kept_state.read_kept(self.state, model)
        if self.state is not None:
            raise InputError("--state and --from are two starts; name one")
        if self.date is None:
            raise InputError(f"--date must say of which date {self.surface} is")
        iv = surface_tables.read_on_grid(self.surface, model.grid)
        if len(iv) != 1:
            raise InputError(f"{self.surface} has {len(iv)} surfaces; paths start at one")
        state = model.next_state(iv[0], self.date, log_return=self.log_return)
        _compare(self.surface, iv[0], state, model)
        return state


def _compare(path: Path, iv: "NDArray[np.floating]", state: "State", model: "SurfaceModel") -> None:
    """Warn where paths start at another surface than the file's, as the model cannot make that one.

    Raises:
        InputError: the two are further apart than surfaces move in a day.
    """
    import numpy as np

    from vae.surface.units import DAYS_PER_YEAR

    miss = np.log(state.iv / iv)
    day = np.sqrt(model.state.variances[:, : iv.size].mean(axis=0)).reshape(iv.shape)  # standard deviations of log vols
    size = float(np.sqrt(np.square(miss / day).mean()))
    tenor, node = np.unravel_index(np.abs(miss / day).argmax(), iv.shape)
    days, place = DAYS_PER_YEAR * model.grid.tenors[tenor], model.grid.nodes[node]
    told = f"at {days:.0f} days and node {place:g} it has {iv[tenor, node]:.2%}, the model {state.iv[tenor, node]:.2%}"
    if size > _FAR:
        raise InputError(
            f"{path} has a surface that the model cannot make: {told}; `volvae complete {path} --state FILE` takes its "
            "points as quotes, and says how sure the state is"
        )
    if size > _NEAR:
        click.echo(f"warning: paths start at the surface that the model makes of {path}: {told}", err=True)


given_return_option = click.option(
    "--given-return",
    type=Finite(),
    help="Log return of the underlying over all of these days, if it is given: -0.0513 for a fall of 5 %.",
)


def start_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets them as its argument ``start``."""

    @click.option(
        "--state",
        type=click.Path(path_type=Path),
        help="The state that `complete --state` keeps; each path starts at a surface that the quotes leave open.",
    )
    @click.option(
        "--from",
        "surface",
        type=click.Path(path_type=Path),
        help="One whole surface of a newer date, as `complete` or `sample` writes it, where paths start.",
    )
    @click.option("--date", type=click.DateTime(["%Y-%m-%d"]), help="Date of that surface.")
    @click.option(
        "--log-return", type=Finite(), help="Log return of the underlying up to that date, if the law has one."
    )
    @wraps(command)
    def run(
        *args: Any,  # noqa: ANN401  a command's own arguments
        state: Path | None,
        surface: Path | None,
        date: dt.datetime | None,
        log_return: float | None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        kwargs["start"] = Start(state, surface, None if date is None else date.date(), log_return)
        command(*args, **kwargs)

    return run
