"""Hot reload: the model of a folder, replaced as a whole when the folder's manifest changes."""

import time
from pathlib import Path
from typing import Literal

from deploy.server import logs
from deploy.server.metrics import Metrics
from deploy.server.served import Fingerprint, Served, fingerprint, load
from deploy.server.trial import Stopped, Trials
from vae.bundle import BundleError
from vae.runtime import Provider

Role = Literal["champion", "challenger"]
_SAYS = {"champion": "serves a model", "challenger": "compares a challenger"}
_REFUSES = {"champion": "a bundle is refused, the former stays", "challenger": "a challenger is refused"}


class Follower:
    """Holds the newest healthy model of a folder.

    Attributes:
        served: replaced as a whole, so that a request holds either the old or the new model.
    """

    served: Served

    def __init__(
        self,
        folder: Path,
        *,
        provider: Provider,
        threads: int,
        metrics: Metrics,
        trials: Trials,
        role: Role = "champion",
    ) -> None:
        self.folder, self._provider, self._threads, self._metrics = folder, provider, threads, metrics
        self._trials, self._role = trials, role
        self._workers = metrics.workers if role == "champion" else metrics.challengers
        self._fingerprint: Fingerprint | None = None
        self._refused = logs.Once()

    def wait_for_model(self, *, poll: float) -> None:
        """Check the folder every ``poll`` seconds until there is a healthy model."""
        while not self.refresh():
            time.sleep(poll)

    def refresh(self) -> bool:
        """Check the folder, and serve its model if it is new; returns whether the model is healthy."""
        try:
            found = fingerprint(self.folder)
            if found != self._fingerprint:
                self._trials.check(found, lambda: self._holds(found))
                self._exchange(load(found, provider=self._provider, threads=self._threads))
                self._fingerprint = found
        except Stopped:
            return False
        except Exception as error:  # noqa: BLE001 - the next check may succeed, whatever failed
            if self._refused.warning(_REFUSES[self._role], str(error)) and self._role == "champion":
                self._metrics.refused.inc()
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
            if self._role == "champion":
                self._metrics.swaps.inc()
            self._workers.labels(old).set(0)
        self._workers.labels(new.version).set(1)
        logs.info(_SAYS[self._role], version=new.version, former=old, provider=new.model.provider)
