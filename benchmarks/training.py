"""Four training recipes side by side: held-out error and ELBO against seconds, on the same surfaces and threads.

D is the number of points of a surface.

    recipe       volvae               baghal               plain                pythae
    networks     params.yaml          D-32-64-128-4        64-256-256-256-6     64-256-256-256-6
    activation   SiLU                 leaky ReLU           SiLU                 SiLU
    start        pPCA                 torch's              torch's              torch's
    sees         basis of the data    vols                 64 principal scores  64 principal scores
    reconstructs vols                 vols                 these scores         these scores
    likelihood   Gaussian, learned    squared error * D    Gaussian, learned    Gaussian, scale of the
                 scale                                     scale                quotes' noise
    KL           sum over latents     mean over latents    sum over latents     sum over latents
    batch        params.yaml          625                  256                  256
    optimiser    SOAP, warm-up        Adam 0.01, weight    Adam 0.002           Adam 0.002
                                      decay 0.01
    schedule     cosine to zero       cosine to zero       cosine to zero       cosine to zero
    precision    float32              float64              float32              float32
    loop         vae.training.trainer              bare                 bare                 pythae's BaseTrainer

- volvae is the recipe of ``make run`` with two differences. Its epochs are as many as fit into the seconds, as its
  cosine schedule needs the number before it starts. Its principal components are of the surfaces with noise, as those
  of plain and pythae, where ``make run`` takes those of the law that simulated them. They and the validation are part
  of its seconds. It is measured with its auxiliary latents until these are removed.
- baghal is the recipe of github.com/sinabaghal/VariationalAutoEncoderforHeston, with no activation after the first
  layer of its decoder and one after the last. The project trains full batches of its 625 surfaces for up to 10^7
  epochs; here a batch is as large and the rate falls within the seconds. So its error says what this recipe does in
  these seconds, and nothing about the project's own run. Here it learns vols. The project itself learns total
  variances, vol^2 * days; on these surfaces they lie between 0.01 and 80, and the error is several times larger.
- plain is the training loop of PyTorch's tutorials with what a careful user would add: a schedule, a good rate, and the
  64 principal scores of a surface instead of its vols.
- pythae is the beta-VAE and the trainer of that package. Its own networks are for images, so that it has those of plain
  and its batch and rate. Its loss has a noise of scale 1; beta makes it the ELBO at the noise of the quotes. Its
  bookkeeping between epochs is not part of its seconds.

Each recipe is measured with its current weights: baghal and plain after any step, volvae and pythae at ends of epochs.

The trainers take turns of a second or two, so that all run under the same load. The clock of each stops while it waits
and while it is measured. Two figures are measured on the test split: the root mean square error of vols, decoded at the
mean of the posterior, against the surfaces without noise; and the ELBO in nats of the density of decimal vols. A recipe
that learns no scale of the noise gets the best one, the root mean square residual of the test split under draws of q.

The ratio to a rival is a quotient of seconds. The numerator is the time after which the rival is first within 1 % of
its own best error, the denominator the time after which volvae is first as good.
"""

import contextlib
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import click
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks import card
from benchmarks.recipes import Baghal, Data, Learned, Plain, Pythae, Trainer, Volvae
from pipeline.errors import InputError, StageError
from pipeline.evaluate import true_log_density
from pipeline.files import formats
from pipeline.files.dataset import SPLITS, Dataset
from pipeline.files.join import join_tensors
from pipeline.settings.params import read_params
from pipeline.settings.prepare import HestonPrepare
from pipeline.settings.train import TrainParams
from pipeline.sources import executors, simulation
from vae.surface.units import BASIS_POINTS

Result = TypeVar("Result")

SURFACES = Path("data/surfaces")
SECONDS = 60.0
BARS = {"plain": 2.0}  # least seconds of a rival to its best error for one of volvae's to the same

_MOMENTS = 12  # number of measurements of a trainer, evenly spaced in the logarithm of the seconds
_FIRST_MOMENT = 0.01  # of the seconds
_TURN_SECONDS = 1.0
_REACHED = 1.01  # times the best error: near enough to count
_TRIAL_EPOCHS, _TRIAL_SHARE = 100, 0.05  # most epochs, and share of the seconds, in which the speed is judged
_MARGIN = 0.98  # of the seconds, planned for epochs: they are not all equally fast
_DRAWS = 4  # of q for each test surface, for the ELBO


class Moment(NamedTuple):
    """Figures of the test split after some seconds of training."""

    seconds: float
    rmse_bp: float
    elbo_nats: float


Curves = dict[str, list[Moment]]


@click.command()
@click.option("--seconds", default=SECONDS, show_default=True, help="Of training, for each trainer.")
@click.option("--threads", default=os.cpu_count() or 1, show_default=True, help="Of every trainer.")
@click.option("--surfaces", default=SURFACES, show_default=True, type=click.Path(path_type=Path), help="Prepared data.")
@click.option("--plot", type=click.Path(path_type=Path), help="PNG of error and ELBO against seconds.")
def main(seconds: float, threads: int, surfaces: Path, plot: Path | None) -> None:
    """Train all recipes and print their figures."""
    try:
        with prepared(surfaces) as folder:
            data = read(folder)
            found = compared(data, seconds=seconds, threads=threads)
            if plot:
                draw(found, oracle_nats(folder), plot)
    except (InputError, StageError) as error:
        sys.exit(str(error))
    for name, curve in found.items():
        for moment in curve:
            print(f"{name:8} {moment.seconds:8.2f} s {moment.rmse_bp:12.3f} bp {moment.elbo_nats:14.1f} nats")
    measured = figures(found)
    card.show(measured, *verdicts(measured))


def results(seconds: float = SECONDS, surfaces: Path = SURFACES) -> dict[str, float]:
    """The figures of training on all cores.

    Raises:
        InputError: there are no prepared surfaces, and params.yaml does not say how to simulate them.
        StageError: they could not be simulated.
    """
    with prepared(surfaces) as folder:
        return figures(compared(read(folder), seconds=seconds, threads=os.cpu_count() or 1))


def verdicts(results: Mapping[str, float]) -> list[str]:
    """A line of text for each ratio that must be reached."""
    ratios = {name: results[f"training_ratio_to_{name}"] for name in BARS}
    return [
        f"training: {ratio:.3g} times as fast as {name} to the best error of {name}; the bar of {BARS[name]:g} is "
        f"{'met' if ratio >= BARS[name] else 'missed'}"
        for name, ratio in ratios.items()
    ]


@contextlib.contextmanager
def prepared(surfaces: Path) -> Iterator[Path]:
    """The folder of Heston surfaces that ``make run`` leaves, else a temporary one, simulated by params.yaml."""
    if (surfaces / "law.json").exists():
        yield surfaces
        return
    settings = read_params().prepare
    if not isinstance(settings, HestonPrepare):
        raise InputError(f"training is measured on prepare.source: heston, not {settings.source}")
    with tempfile.TemporaryDirectory() as name:
        simulate(settings, Path(name))
        yield Path(name)


def simulate(settings: HestonPrepare, folder: Path) -> None:
    """Write the data set of the stage prepare, on all cores."""
    print(f"training: simulates {sum(settings.surfaces.model_dump().values()):,} surfaces", file=sys.stderr)
    shards = simulation.plan(settings)
    paths = {shard: folder / f"{shard.split}-{shard.number:05}.safetensors" for shard in shards}
    function = partial(simulation.simulate, settings, simulation.key_of(settings))
    for shard, content in executors.local(function, shards, workers=settings.workers or os.cpu_count() or 1):
        formats.write_bytes(paths[shard], content)
    for split in SPLITS:
        join_tensors(folder / f"{split}.safetensors", [paths[shard] for shard in shards if shard.split == split])
    Dataset(folder).write_grid(settings.grid.build())
    Dataset(folder).write_law(simulation.law(settings))


def read(surfaces: Path) -> Data:
    """The splits of a folder of Heston surfaces."""
    train, validation, test = (torch.from_numpy(Dataset(surfaces).points(split)) for split in SPLITS)
    clean = torch.from_numpy(Dataset(surfaces).points("test", "clean")).double()
    law = Dataset(surfaces).law
    if law is None:
        raise InputError(f"{surfaces} holds no law.json: training is measured on simulated surfaces")
    return Data(train, validation, test, clean, law.quote_noise_vol)


def compared(data: Data, *, seconds: float, threads: int) -> Curves:
    """The curves of all trainers, each on ``threads`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return curves(data, read_params().train, seconds)
    finally:
        torch.set_num_threads(before)


class Run:
    """A trainer with its clock and its measurements."""

    def __init__(self, start: Callable[[], Trainer], data: Data, seconds: float, *, to_its_end: bool) -> None:
        self._data, self._seconds = data, 0.0
        self._limit = math.inf if to_its_end else seconds
        self._trainer = self._timed(start)
        self._due = _after(self._seconds, np.geomspace(_FIRST_MOMENT * seconds, seconds, _MOMENTS))
        self.finished = False
        self.curve = [measure(self._trainer.learned(), data, self._seconds)]

    def take_turn(self) -> None:
        """Train for a while, and measure at the moments that fall into it."""
        end = self._seconds + _TURN_SECONDS
        while not self.finished and self._seconds < end:
            self.finished = not self._timed(self._trainer.advance) or self._seconds >= self._limit
            if self.finished or len(_after(self._seconds, self._due)) < len(self._due):
                self._due = _after(self._seconds, self._due)
                self.curve.append(measure(self._trainer.learned(), self._data, self._seconds))

    def _timed(self, call: Callable[[], Result]) -> Result:
        start = time.perf_counter()
        result = call()
        self._seconds += time.perf_counter() - start
        return result


def _after(seconds: float, moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """The moments after some seconds."""
    return moments[moments > seconds]


def measure(learned: Learned, data: Data, seconds: float) -> Moment:
    """Error and ELBO on the test split, from the same draws at every moment."""
    with torch.no_grad():
        error = (learned.reconstructed(data.test) - data.clean).square().mean().sqrt()
        elbo = learned.elbo(data.test, draws=_DRAWS, generator=torch.Generator().manual_seed(0)).mean()
    return Moment(seconds, BASIS_POINTS * error.item(), elbo.item())


def curves(data: Data, params: TrainParams, seconds: float) -> Curves:
    """Measurements of each trainer over about ``seconds`` seconds, in turns, until it ends or diverges."""
    epochs = affordable_epochs(data, params, seconds)
    with tempfile.TemporaryDirectory() as folder:
        starts: dict[str, Callable[[], Trainer]] = {
            "volvae": partial(Volvae, data, params, epochs),
            "baghal": partial(Baghal, data, params.seed, seconds),
            "plain": partial(Plain, data, params.seed, seconds),
            "pythae": partial(Pythae, data, params.seed, seconds, Path(folder)),
        }
        runs = {name: Run(start, data, seconds, to_its_end=name == "volvae") for name, start in starts.items()}
        while not all(run.finished for run in runs.values()):
            for run in runs.values():
                run.take_turn()
    return {name: [moment for moment in run.curve if all(map(math.isfinite, moment))] for name, run in runs.items()}


def affordable_epochs(data: Data, params: TrainParams, seconds: float) -> int:
    """The number of epochs of volvae that take about ``seconds`` seconds, estimated from its first epochs."""
    start = time.perf_counter()
    trial = Volvae(data, params, _TRIAL_EPOCHS)
    ready = time.perf_counter() - start
    trial.advance()
    start, epochs = time.perf_counter(), 0
    while not epochs or (epochs < _TRIAL_EPOCHS - 1 and time.perf_counter() - start < _TRIAL_SHARE * seconds):
        trial.advance()
        epochs += 1
    epoch = (time.perf_counter() - start) / epochs
    return max(2, math.floor((_MARGIN * seconds - ready) / epoch))


def figures(found: Curves) -> dict[str, float]:
    """Flat figures: those of each trainer at its last moment, and the seconds of both to the best error of each rival.

    Where volvae does not reach this error, its seconds are missing and the ratio is 0.
    """
    results: dict[str, float] = {}
    for name, curve in found.items():
        results |= {f"training_{name}_{figure}": value for figure, value in curve[-1]._asdict().items()}
    for rival in [name for name in found if name != "volvae"]:
        best = min(moment.rmse_bp for moment in found[rival])
        theirs, ours = seconds_to(found[rival], _REACHED * best), seconds_to(found["volvae"], best)
        results[f"training_{rival}_best_rmse_bp"] = best
        results[f"training_{rival}_seconds_to_its_best"] = theirs
        if ours < math.inf:
            results[f"training_volvae_seconds_to_best_of_{rival}"] = ours
        results[f"training_ratio_to_{rival}"] = theirs / ours
    return results


def seconds_to(curve: list[Moment], rmse_bp: float) -> float:
    """Seconds after which the error was first as small, by straight lines between moments in logarithms."""
    for number, after in enumerate(curve):
        if after.rmse_bp <= rmse_bp:
            if not number:
                return after.seconds
            before = curve[number - 1]
            part = math.log(before.rmse_bp / rmse_bp) / math.log(before.rmse_bp / after.rmse_bp)
            return before.seconds * math.exp(part * math.log(after.seconds / before.seconds))
    return math.inf


def oracle_nats(surfaces: Path) -> float:
    """Mean log density of the test surfaces under the law that made them: the ceiling of the ELBO, but for chance."""
    densities = true_log_density(Dataset(surfaces))
    if densities is None:
        raise InputError(f"the density of the surfaces in {surfaces} is not known")
    return densities.mean().item()


def draw(found: Curves, ceiling_nats: float, path: Path) -> None:
    """Write a PNG of the error and of the distance of the ELBO from its ceiling against seconds."""
    figure = Figure(figsize=(11.0, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, curve in found.items():
        seconds = [moment.seconds for moment in curve]
        left.plot(seconds, [moment.rmse_bp for moment in curve], marker=".", label=name)
        right.plot(seconds, [ceiling_nats - moment.elbo_nats for moment in curve], marker=".", label=name)
    first = _FIRST_MOMENT * max(curve[-1].seconds for curve in found.values())
    for axes, label in ((left, "error of the test surfaces, bp of vol"), (right, "oracle less ELBO, nats")):
        axes.set(xscale="log", yscale="log", xlabel="seconds of training", ylabel=label)
        axes.set_xlim(left=0.5 * first)
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
