"""A challenger beside the served model, the champion: compared on quotes of clients, withdrawn where it is worse.

Of the quotes of a request one is hidden. Both models complete the surface from the others, and each is scored by how
well it predicted the hidden one. So the comparison needs no surface that is known to be right.
"""

import math
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from threading import Thread
from typing import Any, NamedTuple

import numpy as np

from deploy.server import logs
from deploy.server.errors import LateError
from deploy.server.metrics import Metrics
from deploy.server.reload import Follower
from deploy.server.served import Served
from vae.runtime import Completion, SurfaceModel, VectorModel
from vae.surface.units import BASIS_POINTS

Quotes = Mapping[str, Any]  # arguments of SurfaceModel.complete
_COLUMNS = ("iv", "tenor", "log_moneyness", "call_delta", "weight")

_UNSEEN = 1e-9  # weight of a quote that shall have no effect
_SECONDS = 30.0  # that a model may take to predict a quote
_FAILURES = 3  # requests that the champion answers and the challenger does not
_FIRST_LOOK = 128  # comparisons; later looks are at twice, four times, ... as many
_WORSE = 4.0  # standard errors ...
_LEAST = 0.01  # ... and the share of the champion's score that a difference must have
_SLOWER = 2.0  # times the seconds of the champion, at the median ...
_LATEST = 1024  # ... of so many comparisons


class Prediction(NamedTuple):
    """How well a model predicted a hidden quote.

    Attributes:
        crps: continuous ranked probability score, basis points of vol; smaller is better.
        seconds: that the model took for the surface.
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


def predicted(model: SurfaceModel, quotes: Quotes, hidden: int) -> Prediction | None:
    """How well a model predicts one of the quotes from the others; None where it lies outside of the model's grid.

    The others are completed as the client's would be, so that their noise is estimated where no weights are given. A
    second completion, with what the first found of them, reads that surface at the hidden quote, which has no weight.

    Raises:
        ValueError: the model cannot complete these quotes.
    """
    start = time.perf_counter()
    rest = model.complete(**{name: _without(hidden, name, column) for name, column in quotes.items()})
    seconds = time.perf_counter() - start
    weight = np.array(np.broadcast_to(quotes.get("weight", 1.0), np.shape(quotes["iv"])), np.float64)
    noise = rest.noise / math.sqrt(weight[hidden])
    if "weight" not in quotes:
        learned = float(model.manifest["observation_scale_vol"])
        weight = np.insert(np.where(rest.wild, _UNSEEN, (learned / rest.noise) ** 2), hidden, 0.0)
    weight[hidden] = _UNSEEN
    read = model.complete(**{**quotes, "weight": weight})
    if not read.used[hidden]:
        return None
    std = math.hypot(float(read.fitted_std[hidden]), noise)
    score = BASIS_POINTS * crps(float(quotes["iv"][hidden]), float(read.fitted[hidden]), std)
    if not math.isfinite(score):
        raise ValueError("the prediction of the hidden quote is not finite")
    return Prediction(score, seconds)


def _without(hidden: int, name: str, column: Any) -> Any:  # noqa: ANN401 - an argument of SurfaceModel.complete
    return np.delete(np.asarray(column), hidden) if name in _COLUMNS else column


class Comparisons:
    """How a challenger did beside a champion, judged at 128, 256, 512, ... comparisons.

    Attributes:
        withdrawn: why the challenger takes no part; None while it does.
    """

    def __init__(self, withdrawn: str | None = None) -> None:
        self.withdrawn = withdrawn
        self._compared, self._failures = 0, 0
        self._champions = 0.0  # sum of the champion's scores
        self._sum, self._squares = 0.0, 0.0  # of the challenger's scores less the champion's
        self._times: deque[float] = deque(maxlen=_LATEST)  # seconds of the challenger by those of the champion

    def add(self, champion: Prediction, challenger: Prediction) -> None:
        """Count a comparison, and judge where it is time for that."""
        excess = challenger.crps - champion.crps
        self._compared += 1
        self._champions += champion.crps
        self._sum, self._squares = self._sum + excess, self._squares + excess * excess
        self._times.append(challenger.seconds / champion.seconds)
        if self._compared >= _FIRST_LOOK and self._compared.bit_count() == 1:
            self.withdrawn = self.withdrawn or self._judged()

    def failed(self, reason: str) -> None:
        """Count a request that the champion answers and the challenger does not."""
        self._failures += 1
        if self._failures >= _FAILURES:
            self.withdrawn = self.withdrawn or f"it fails where the champion answers: {reason}"

    def _judged(self) -> str | None:
        count, mean = self._compared, self._sum / self._compared
        error = math.sqrt(max(self._squares / count - mean * mean, 0.0) / (count - 1))
        if mean > max(_WORSE * error, _LEAST * self._champions / count):
            return f"it predicts hidden quotes {mean:.2g} bp worse (CRPS of {count}, standard error {error:.2g})"
        times = statistics.median(self._times)
        return f"it takes {times:.1f} times as long" if times > _SLOWER else None


class Challenge:
    """Compares the model of a folder with the champion on some of the requests to complete a surface.

    Args:
        follower: of the challenger's folder.
        share: of the requests on which both are compared, after the answer, in a thread.
        answers: share of the requests that the challenger answers.
        metrics: of this worker.
    """

    def __init__(self, follower: Follower, *, share: float, answers: float, metrics: Metrics) -> None:
        self.follower = follower
        self._share, self._answers, self._metrics = share, answers, metrics
        self._random = random.Random(0)  # noqa: S311 - nothing secret
        self._waiting = logs.Once()
        self._challenger: Served | None = None
        self._pair: tuple[Served, Served] | None = None  # of which the record is
        self._record = Comparisons()
        self._thread = Thread()

    def refresh(self) -> None:
        """Look for a new challenger; one whose folder is gone takes no part any more."""
        if not self.follower.folder.is_dir():
            self._challenger = None
            self._waiting.warning("waits for a challenger", f"there is no folder {self.follower.folder}")
        elif self.follower.refresh():
            self._waiting.reset()
            self._challenger = self.follower.served

    def complete(self, champion: Served, quotes: Quotes, deadline: float) -> tuple[Served, Completion]:
        """The model that answers, and its completion.

        Args:
            champion: the model that is served.
            quotes: of the request.
            deadline: on the clock ``time.monotonic``.

        Raises:
            ValueError: the champion cannot complete these quotes.
            LateError: the deadline passed.
        """
        challenger = self._challenger_of(champion)
        if challenger is None:
            return champion, champion.in_time(deadline).complete(**quotes)
        record = self._record
        answer = self._answer(record, champion, challenger, quotes, deadline)
        if self._random.random() < self._share and len(quotes["iv"]) > 1 and not self._thread.is_alive():
            hidden, first = self._random.randrange(len(quotes["iv"])), self._random.random() < 0.5
            compare = partial(self._compare, record, champion, challenger, quotes, hidden, challenger_first=first)
            self._thread = Thread(target=compare, name="volvae-challenger", daemon=True)
            self._thread.start()
        return answer

    def _answer(
        self, record: Comparisons, champion: Served, challenger: Served, quotes: Quotes, deadline: float
    ) -> tuple[Served, Completion]:
        if self._random.random() >= self._answers:
            return champion, champion.in_time(deadline).complete(**quotes)
        try:
            return challenger, challenger.in_time(deadline).complete(**quotes)
        except LateError as error:
            self._failed(record, challenger, error)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the champion answers
            found = champion.in_time(deadline).complete(**quotes)  # where this raises too, the quotes are at fault
            self._failed(record, challenger, error)
            return champion, found

    def _challenger_of(self, champion: Served) -> Served | None:
        """The challenger, unless it cannot be compared or was withdrawn; the record starts with each pair."""
        challenger = self._challenger
        if challenger is None:
            return None
        if self._pair is None or self._pair[0] is not champion or self._pair[1] is not challenger:
            self._pair, self._record = (champion, challenger), Comparisons(_mismatch(champion, challenger))
            self._metrics.challengers.labels(challenger.version).set(self._record.withdrawn is None)
            if self._record.withdrawn:
                logs.info("compares no challenger", version=challenger.version, reason=self._record.withdrawn)
        return None if self._record.withdrawn else challenger

    def _compare(
        self,
        record: Comparisons,
        champion: Served,
        challenger: Served,
        quotes: Quotes,
        hidden: int,
        *,
        challenger_first: bool,
    ) -> None:
        """Compare both on one request, in the thread; the order is drawn, as the second finds a warm processor."""
        theirs: Prediction | Exception | None = None
        try:
            if challenger_first:
                theirs = _attempt(challenger, quotes, hidden)
            ours = predicted(champion.in_time(time.monotonic() + _SECONDS), quotes, hidden)
            if not challenger_first:
                theirs = _attempt(challenger, quotes, hidden)
            if isinstance(theirs, Exception):
                self._failed(record, challenger, theirs)
            elif ours is not None and theirs is not None:
                self._metrics.compared("champion", *ours)
                self._metrics.compared("challenger", *theirs)
                self._changed(record, challenger, partial(record.add, ours, theirs))
        except (ValueError, LateError):
            return  # of the champion: the client's own answer says why
        except Exception as error:  # noqa: BLE001 - else it would vanish with the thread
            logs.failure("a comparison failed", error)

    def _failed(self, record: Comparisons, challenger: Served, error: Exception) -> None:
        self._metrics.challenger_failures.inc()
        logs.failure("the challenger fails where the champion answers", error, version=challenger.version)
        self._changed(record, challenger, lambda: record.failed(type(error).__name__))

    def _changed(self, record: Comparisons, challenger: Served, change: Callable[[], None]) -> None:
        """Change a record, and say so where that withdraws the challenger."""
        before = record.withdrawn
        change()
        if record.withdrawn and not before:
            self._metrics.withdrawn.inc()
            self._metrics.challengers.labels(challenger.version).set(0)
            logs.warning("withdraws the challenger", version=challenger.version, reason=record.withdrawn)


def _mismatch(champion: Served, challenger: Served) -> str | None:
    """Why two models cannot be compared; None where they can."""
    if champion.model.manifest == challenger.model.manifest:
        return "it is the champion itself"
    if isinstance(challenger.model, VectorModel) or isinstance(champion.model, VectorModel):
        return "one of them is of vectors"
    if champion.model.grid.to_dict() != challenger.model.grid.to_dict():
        return "its grid is another"
    return None


def _attempt(challenger: Served, quotes: Quotes, hidden: int) -> Prediction | Exception | None:
    """The challenger's prediction, or its error, which counts only if the champion has none."""
    try:
        return predicted(challenger.in_time(time.monotonic() + _SECONDS), quotes, hidden)
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
