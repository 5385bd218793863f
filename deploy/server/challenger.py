"""A challenger beside the served model, the champion: compared on quotes of clients, withdrawn where it is worse.

Of the quotes of a request one is hidden. Both models complete the surface from the others, and each is scored by how
well it foretold the hidden one. So the comparison needs no surface that is known to be right.
"""

import math
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from deploy.server import logs
from deploy.server.errors import LateError
from deploy.server.metrics import Metrics
from deploy.server.reload import Follower
from deploy.server.served import Served
from vae.runtime import Completion, SurfaceModel

Quotes = Mapping[str, Any]  # arguments of SurfaceModel.complete

_BASIS_POINTS = 1e4
_UNSEEN = 1e-9  # weight of the hidden quote; its error would be 30,000 times that of a point of the data
_FAILURES = 3  # requests that the champion answers and the challenger does not
_FIRST_LOOK = 32  # comparisons; later looks are at twice, four times, ... as many
_WORSE = 4.0  # standard errors; of a challenger that is as good, one in 2,000 is withdrawn in 15 looks
_SLOWER = 2.0  # times the seconds of the champion


class Foretold(NamedTuple):
    """How a model foretold a hidden quote.

    Attributes:
        crps: continuous ranked probability score, basis points of vol; smaller is better. NaN where the quote lies
            outside of the model's grid.
        seconds: that the model took.
    """

    crps: float
    seconds: float


def crps(value: float, mean: float, std: float) -> float:
    """Continuous ranked probability score of a normal prediction, in the unit of the value.

    It is proper: a model gains nothing by being surer, or less sure, than it is (Gneiting and Raftery, Strictly proper
    scoring rules, 2007, section 4.2).
    """
    z = (value - mean) / std
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return std * (z * math.erf(z / math.sqrt(2.0)) + 2.0 * density - 1.0 / math.sqrt(math.pi))


def foretold(model: SurfaceModel, quotes: Quotes, hidden: int) -> Foretold:
    """How a model foretells one of the quotes from the others.

    Raises:
        ValueError: the model cannot complete these quotes.
    """
    weight = np.array(np.broadcast_to(quotes.get("weight", 1.0), np.shape(quotes["iv"])), np.float64)
    weight[hidden] *= _UNSEEN
    start = time.perf_counter()
    found = model.complete(**{**quotes, "weight": weight})
    seconds = time.perf_counter() - start
    if not found.used[hidden]:
        return Foretold(math.nan, seconds)
    std = math.hypot(float(found.fitted_std[hidden]), found.noise)
    score = crps(float(quotes["iv"][hidden]), float(found.fitted[hidden]), std)
    return Foretold(_BASIS_POINTS * score, seconds)


class Record:
    """How a challenger did beside a champion; whoever stays is judged at 32, 64, 128, ... comparisons.

    Attributes:
        versions: of the champion and of the challenger.
        withdrawn: why the challenger no longer takes part; None while it does.
    """

    def __init__(self, versions: tuple[str, str]) -> None:
        self.versions = versions
        self.withdrawn: str | None = None
        self._compared, self._failures = 0, 0
        self._sum, self._squares = 0.0, 0.0  # of the challenger's scores less the champion's
        self._seconds = [0.0, 0.0]

    def add(self, champion: Foretold, challenger: Foretold) -> None:
        """Count a comparison, and judge where it is time for that."""
        excess = challenger.crps - champion.crps
        self._compared += 1
        self._sum, self._squares = self._sum + excess, self._squares + excess * excess
        self._seconds = [self._seconds[0] + champion.seconds, self._seconds[1] + challenger.seconds]
        if self._compared >= _FIRST_LOOK and self._compared.bit_count() == 1:
            self.withdrawn = self.withdrawn or self._judged()

    def failed(self, reason: str) -> None:
        """Count a request that the champion answers and the challenger does not."""
        self._failures += 1
        if self._failures >= _FAILURES:
            self.withdrawn = self.withdrawn or f"it fails where the champion answers: {reason}"

    def _judged(self) -> str | None:
        count, mean = self._compared, self._sum / self._compared
        error = math.sqrt(max(self._squares / count - mean * mean, 0.0) / count)
        if mean > _WORSE * error:
            return f"it foretells hidden quotes {mean:.2g} bp worse (CRPS of {count}, standard error {error:.2g})"
        times = self._seconds[1] / self._seconds[0]
        return f"it takes {times:.1f} times as long" if times > _SLOWER else None


class Challenge:
    """Compares the model of a folder with the champion on some of the requests to complete a surface.

    Args:
        follower: of the challenger's folder.
        share: of the requests on which both are compared, in a thread of its own.
        answers: share of the requests that the challenger answers.
        metrics: of this worker.
    """

    def __init__(self, follower: Follower, *, share: float, answers: float, metrics: Metrics) -> None:
        self.follower = follower
        self._share, self._answers, self._metrics = share, answers, metrics
        self._thread = ThreadPoolExecutor(1, "volvae-challenger")
        self._busy = False
        self._random = random.Random(0)  # noqa: S311 - nothing secret
        self._rival: Served | None = None
        self._record = Record(("", ""))

    def refresh(self) -> None:
        """Look for a new challenger."""
        if self.follower.folder.exists() and self.follower.refresh():  # an alias may name none yet
            self._rival = self.follower.served

    def complete(self, champion: Served, quotes: Quotes, check: Callable[[], None]) -> tuple[Served, Completion]:
        """The model that answers, and its completion.

        Args:
            champion: the model that is served.
            quotes: of the request.
            check: called before each graph, as ``SurfaceModel.checked`` says.

        Raises:
            ValueError: the champion cannot complete these quotes.
        """
        rival = self._rival_of(champion)
        if rival is None:
            return champion, _complete(champion, quotes, check)
        if self._random.random() < self._share and len(quotes["iv"]) > 1 and not self._busy:
            self._busy = True
            hidden = self._random.randrange(len(quotes["iv"]))
            self._thread.submit(self._compare, self._record, champion, rival, quotes, hidden)
        if self._random.random() >= self._answers:
            return champion, _complete(champion, quotes, check)
        try:
            return rival, _complete(rival, quotes, check)
        except LateError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the champion answers
            found = _complete(champion, quotes, check)  # where this raises too, the quotes are at fault
            self._failed(self._record, error)
            return champion, found

    def _rival_of(self, champion: Served) -> Served | None:
        """The challenger, unless it is the champion itself or was withdrawn; its record starts with each pair."""
        rival = self._rival
        if rival is None or rival.version == champion.version:
            return None
        if self._record.versions != (champion.version, rival.version):
            self._record = Record((champion.version, rival.version))
            self._metrics.challengers.labels(rival.version).set(1)  # after it was withdrawn, too
        return None if self._record.withdrawn else rival

    def _compare(self, record: Record, champion: Served, rival: Served, quotes: Quotes, hidden: int) -> None:
        """Compare both on one request, in the thread."""
        try:
            ours = foretold(champion.surfaces, quotes, hidden)
            try:
                theirs = foretold(rival.surfaces, quotes, hidden)
            except Exception as error:  # noqa: BLE001 - the champion could
                self._failed(record, error)
                return
            if math.isnan(ours.crps + theirs.crps):  # one of them cannot read the hidden quote
                return
            self._metrics.compared("champion", *ours)
            self._metrics.compared("challenger", *theirs)
            self._changed(record, lambda: record.add(ours, theirs))
        except ValueError:
            return  # the client's quotes, whose own answer says why
        finally:
            self._busy = False

    def _failed(self, record: Record, error: Exception) -> None:
        self._metrics.challenger_failures.inc()
        logs.failure("the challenger fails where the champion answers", error, version=record.versions[1])
        self._changed(record, lambda: record.failed(type(error).__name__))

    def _changed(self, record: Record, change: Callable[[], None]) -> None:
        """Change a record, and say so where that withdraws the challenger."""
        before = record.withdrawn
        change()
        if record.withdrawn and not before:
            self._metrics.withdrawn.inc()
            self._metrics.challengers.labels(record.versions[1]).set(0)
            logs.warning("withdraws the challenger", version=record.versions[1], reason=record.withdrawn)


def _complete(served: Served, quotes: Quotes, check: Callable[[], None]) -> Completion:
    return served.surfaces.checked(check).complete(**quotes)
