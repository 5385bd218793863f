"""One worker: a process that loads the model and serves the application with uvicorn."""

import asyncio
import gc
import socket
import time
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from deploy.server import logs, reload
from deploy.server.app import application, routes
from deploy.server.challenger import Challenge
from deploy.server.connection import bounded_protocol
from deploy.server.metrics import Metrics
from deploy.server.reload import Follower
from deploy.server.settings import Settings
from deploy.server.state import Service
from deploy.server.supervisor import Pulse
from deploy.server.tracing import traced
from deploy.server.trial import Trials

_BEAT = 1.0  # seconds between two notes that the event loop runs
_KEEP_ALIVE = 75  # seconds: longer than load balancers keep idle connections, so that they close first


def work(settings: Settings, listener: socket.socket, tried: Path, pulse: Pulse) -> None:
    """Serve on a socket until a signal ends the process; the folder has the outcomes of trials of all workers."""
    service = ready(settings, tried)
    Worker(service, traced(application(service, routes(service))), pulse).run([listener])


def ready(settings: Settings, tried: Path) -> Service:
    """A service whose model is loaded and warm."""
    logs.configure()
    counters, trials = Metrics(), Trials(tried)
    follow = partial(Follower, provider=settings.provider, threads=settings.threads, trials=trials)
    follower = follow(reload.champion(settings.bundle, counters))
    follower.wait_for_model(poll=settings.poll)
    gc.freeze()  # these objects stay for good; scanning them in each collection delays one answer in a hundred
    if settings.challenger is None:
        return Service(settings, follower, counters)
    # its bundle is looked for while the server runs
    challenge = Challenge(
        follow(reload.challenger(settings.challenger, counters)),
        share=settings.challenger_share,
        answers=settings.challenger_answers,
        metrics=counters,
    )
    return Service(settings, follower, counters, challenge)


class Worker(uvicorn.Server):
    """uvicorn's server with limits on connections, and a time after SIGTERM in which clients leave in order."""

    def __init__(self, service: Service, app: ASGIApp, pulse: Pulse) -> None:
        self._service, self._pulse = service, pulse
        protocol = bounded_protocol(
            service.limits, draining=lambda: service.draining, rejected=service.metrics.rejected
        )
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=service.settings.grace,
            )
        )

    async def main_loop(self) -> None:
        """Serve until a signal; then go on for ``drain`` seconds, not ready."""
        self._beating = asyncio.create_task(self._beat())  # until the event loop ends
        await super().main_loop()
        self._service.draining = True
        await asyncio.sleep(self._service.settings.drain)
        self._service.stopping.set()

    async def _beat(self) -> None:
        """Note again and again that the event loop runs."""
        while True:
            self._pulse.value = time.monotonic()
            await asyncio.sleep(_BEAT)
