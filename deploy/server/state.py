"""State of one worker, shared by all routes."""

import asyncio

from deploy.server.batching import Engine
from deploy.server.challenger import Challenge
from deploy.server.limits import Limits
from deploy.server.metrics import Metrics
from deploy.server.reload import Follower
from deploy.server.settings import Settings


class Service:
    """The state of one worker.

    Attributes:
        settings: of the server.
        follower: the model that is served.
        challenge: the model that is compared with it, if there is one.
        metrics: counters of this worker.
        limits: how much it takes on.
        engine: runs the graphs.
        draining: whether the worker is about to stop.
        stopping: set when calls in flight are the last ones.
    """

    def __init__(
        self, settings: Settings, follower: Follower, metrics: Metrics, challenge: Challenge | None = None
    ) -> None:
        self.settings, self.follower, self.metrics, self.challenge = settings, follower, metrics, challenge
        self.limits = Limits(settings)
        self.engine = Engine(deadline=settings.deadline, metrics=metrics)
        self.draining = False
        self.stopping = asyncio.Event()
