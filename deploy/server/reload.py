"""Hot reload: the model of a folder, replaced as a whole when the folder's manifest changes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from deploy.server import logs
from deploy.server.metrics import Metrics
from deploy.server.served import Fingerprint, Served, fingerprint, load
from deploy.server.trial import Stopped, Trials
from vae.bundle import BundleError
from vae.runtime import Provider

if TYPE_CHECKING:  # it decides at its import whether counters are shared
    from prometheus_client import Gauge


class Role(NamedTuple):
    """For what the model of a folder is taken, and so what is said and counted where it changes.

    Attributes:
        folder: which is followed; a symbolic link in most cases.
        taken: the line of the log where a model is taken.
        refused: the line of the log where one is refused.
        workers: the gauge of workers that hold a version.
        count_swap: called where a model takes the place of another.
        count_refusal: called where a bundle is refused, once for each reason.
    """

    folder: Path
    taken: str
    refused: str
    workers: "Gauge"
    count_swap: Callable[[], None]
    count_refusal: Callable[[], None]


def champion(folder: Path, metrics: Metrics) -> Role:
    """The role of the model that is served."""
    said = ("serves a model", "a bundle is refused, the former stays")
    return Role(folder, *said, metrics.workers, metrics.swaps.inc, metrics.refused.inc)


def challenger(folder: Path, metrics: Metrics) -> Role:
    """The role of a model beside it, whose exchange and refusal change no answer."""
    said = ("compares a challenger", "a challenger is refused")
    return Role(folder, *said, metrics.challengers, lambda: None, lambda: None)


class Follower:
    """Holds the newest healthy model of a folder.

    Attributes:
        served: replaced as a whole, so that a request holds either the old or the new model.
    """

    served: Served

    def __init__(self, role: Role, *, provider: Provider, threads: int, trials: Trials) -> None:
        self.folder, self._role = role.folder, role
        self._provider, self._threads, self._trials = provider, threads, trials
        self._fingerprint: Fingerprint | None = None
        self._refused = logs.Once()

    def wait_for_model(self, *, poll: float) -> None:
        """Check the folder every ``poll`` seconds until there is a healthy model."""
        while not self.refresh(alone=True):
            time.sleep(poll)

    def refresh(self, *, alone: bool = False) -> bool:
        """Check the folder, and serve its model if it is new; returns whether the model is healthy.

        Args:
            alone: whether nobody is served yet, so that the graphs may start side by side.
        """
        try:
            found = fingerprint(self.folder)
            if found != self._fingerprint:
                self._trials.check(found, lambda: self._holds(found))
                loaded = load(found, provider=self._provider, threads=self._threads, side_by_side=alone)
                self._exchange(loaded)
                self._fingerprint = found
        except Stopped:
            return False
        except Exception as error:  # noqa: BLE001 - the next check may succeed, whatever failed
            if self._refused.warning(self._role.refused, str(error)):
                self._role.count_refusal()
            return False
        self._refused.reset()
        return True

    def _holds(self, found: Fingerprint) -> bool:
        """Whether the folder holds this bundle still."""
        try:
            return fingerprint(self.folder) == found
        except BundleError:
            return False

    def stop(self) -> None:
        """End a check that is under way, whose bundle may take long to try."""
        self._trials.stop.set()

    def _exchange(self, new: Served) -> None:
        old = self._fingerprint and self.served.version
        self.served = new
        if old is not None:
            self._role.count_swap()
            self._role.workers.labels(old).set(0)
        self._role.workers.labels(new.version).set(1)
        logs.info(self._role.taken, version=new.version, former=old, provider=new.model.provider)
