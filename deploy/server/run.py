"""The application, and the workers that serve it."""

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Router

from deploy.server import logs, metrics, openapi
from deploy.server.answers import json_response
from deploy.server.connection import bounded
from deploy.server.middleware import Guard, route
from deploy.server.oip_routes import Inference
from deploy.server.pages import Pages
from deploy.server.reload import Follower, load, mark
from deploy.server.settings import Settings
from deploy.server.state import BUSY, CROWDED, Service
from deploy.server.supervisor import Workers, until_told
from deploy.server.surface_routes import Friendly

_KEEP_ALIVE = 75  # seconds: longer than balancers keep theirs, so that they close first


def run(settings: Settings, *, wait: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; workers that die are replaced.

    Args:
        settings: what it is told.
        wait: for a model that is fit to serve, where there is none yet.

    Raises:
        ValueError: the bundle is not fit to serve, or the address cannot be listened at.
    """
    logs.configure()
    with until_told() as told:
        if not wait:
            _try(settings)  # before there are workers to fail
        elif not _await_model(settings, told):
            return
        with closing(_listen(settings)) as listener, metrics.shared():
            _say(settings, listener)
            workers = Workers(partial(_work, settings, listener), settings.workers)
            try:
                workers.keep(told)
            finally:
                listener.close()  # the workers' own stay open while they drain
                workers.stop(seconds=settings.drain + settings.grace)


def _try(settings: Settings) -> None:
    """Raise ValueError unless there is a model that is fit to serve."""
    load(mark(settings.bundle), provider=settings.provider, threads=settings.threads)


def _await_model(settings: Settings, told: threading.Event) -> bool:
    """Wait until there is a model that is fit to serve; false if the event is set before."""
    unfit = logs.Once()
    while not told.is_set():
        if settings.bundle.exists():  # who brings it says why it does not
            try:
                _try(settings)
            except ValueError as error:
                unfit.warning("waits for a model that is fit to serve", str(error))
            else:
                return True
        told.wait(settings.poll)
    return False


def _say(settings: Settings, listener: socket.socket) -> None:
    if settings.open_to_others:
        logs.warning("ANYONE WHO REACHES THIS ADDRESS CAN USE IT: set VOLVAE_TOKEN", host=settings.host)
    host, port = listener.getsockname()[:2]
    logs.info("listens", host=host, port=port, workers=settings.workers)


def routes(service: Service) -> list[BaseRoute]:
    """All of them, those that are called most first."""

    async def document(_: Request) -> Response:
        return json_response(openapi.document(service.follower.served, service.settings))

    async def counters(_: Request) -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [
        *Inference(service).routes(),
        *Friendly(service).routes(),
        route("/metrics", counters),
        route("/openapi.json", document),
        *Pages(service).routes(),
    ]


def application(service: Service, routes: Sequence[BaseRoute]) -> Guard:
    """Routes over a service, which follows its bundle as long as the application lives."""

    @asynccontextmanager
    async def following(_: Guard) -> AsyncIterator[None]:
        task = asyncio.create_task(_follow(service))
        yield
        task.cancel()

    return Guard(Router(routes, redirect_slashes=False, lifespan=following), service)


def ready(settings: Settings) -> Service:
    """A service, once a good model is warm."""
    logs.configure()
    counters = metrics.Metrics()
    follower = Follower(settings.bundle, provider=settings.provider, threads=settings.threads, metrics=counters)
    follower.first(poll=settings.poll)
    gc.freeze()  # what is here for good: to look through it again and again is what makes one answer in a hundred late
    return Service(settings, follower, counters)


async def _follow(service: Service) -> None:
    """Look at the bundle again and again."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(service.settings.poll)
        await loop.run_in_executor(None, service.follower.refresh)


class Worker(uvicorn.Server):
    """One process of the server."""

    def __init__(self, service: Service, app: Guard) -> None:
        self._service = service
        settings = service.settings
        protocol = bounded(
            settings.receive,
            most=settings.connections,
            crowded=CROWDED,
            queue=service.queue,
            busy=BUSY,
            draining=lambda: service.draining,
            turned_away=service.metrics.turned_away,
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
                timeout_graceful_shutdown=settings.grace,
            )
        )

    async def main_loop(self) -> None:
        """Until it is told to stop; then go on for a while, so that clients leave in order."""
        await super().main_loop()
        self._service.draining = True
        await asyncio.sleep(self._service.settings.drain)


def _work(settings: Settings, listener: socket.socket) -> None:
    """The life of a worker."""
    service = ready(settings)
    Worker(service, application(service, routes(service))).run([listener])


def _listen(settings: Settings) -> socket.socket:
    """A socket whose connections wait until a worker accepts them."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=settings.connections)
    except OSError as error:
        raise ValueError(f"{settings.host}:{settings.port} cannot be listened at: {error.strerror}") from error
