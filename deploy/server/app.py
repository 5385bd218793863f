"""The application: all routes over one service."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Router

from deploy.server import logs, metrics, openapi
from deploy.server.answers import json_response
from deploy.server.middleware import Middleware, route
from deploy.server.oip_routes import OipRoutes
from deploy.server.pages import Pages
from deploy.server.priority import give_way
from deploy.server.served import Served
from deploy.server.state import Service
from deploy.server.surface_routes import SurfaceRoutes


def routes(service: Service) -> list[BaseRoute]:
    """All routes; those that are called most come first, because the router tries them in order."""
    document = _Document(service)

    async def counters(_: Request) -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [
        *OipRoutes(service).routes(),
        *SurfaceRoutes(service).routes(),
        route("/metrics", counters),
        route("/openapi.json", document.get),
        *Pages(service).routes(),
    ]


def application(service: Service, routes: Sequence[BaseRoute]) -> Middleware:
    """Routes over a service, which reloads its model as long as the application lives."""

    @asynccontextmanager
    async def lifespan(_: Middleware) -> AsyncIterator[None]:
        followed: list[Callable[[], object]] = [service.follower.refresh]
        if service.challenge is not None:
            followed.append(service.challenge.refresh)
        # A call of several threads starts them here, where they would keep the low priority for all requests after it.
        beside = give_way if service.settings.threads == 1 else None
        pool = ThreadPoolExecutor(len(followed), "volvae-follower", initializer=beside)
        tasks = [asyncio.create_task(_repeat(refresh, service.settings.poll, pool)) for refresh in followed]
        try:
            async with _over_grpc(service):
                yield
        finally:
            for task in tasks:
                task.cancel()
            service.follower.stop()
            if service.challenge is not None:
                service.challenge.follower.stop()
            pool.shutdown(wait=False)

    return Middleware(Router(routes, redirect_slashes=False, lifespan=lifespan), service)


class _Document:
    """The OpenAPI document, which is made once for each model: its example is a surface that is drawn."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._served: Served | None = None
        self._response = Response()

    async def get(self, _: Request) -> Response:
        """The document of the served model."""
        served = self._service.follower.served
        if served is not self._served:
            made = await asyncio.to_thread(openapi.document, served, self._service.settings)
            self._served, self._response = served, json_response(made)
        return self._response


def _over_grpc(service: Service) -> AbstractAsyncContextManager[None]:
    """The block in which gRPC is served too, where it is asked for."""
    if service.settings.grpc_port is None:
        return nullcontext()
    from deploy.server import grpc_server  # noqa: PLC0415 - grpc is optional

    return grpc_server.serving(service)


async def _repeat(look: Callable[[], object], poll: float, pool: Executor) -> None:
    """Look for a new model every ``poll`` seconds, whatever a look ends in."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(poll)
        try:
            await loop.run_in_executor(pool, look)
        except Exception as error:  # noqa: BLE001 - the next look may succeed
            logs.failure("a look for a new model failed", error)
