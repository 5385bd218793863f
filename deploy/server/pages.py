"""Pages for people: the explorer, which runs the model in the browser, and the reference of the HTTP interface."""

import asyncio
from importlib.metadata import distribution
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from deploy.server import errors
from deploy.server.answers import VERSION, json_response
from deploy.server.middleware import route
from deploy.server.state import Service
from vae import bundle
from vae.surface import plausible

_EXPLORER = Path(__file__).parents[1] / "explorer"
_REFERENCE = _EXPLORER / "reference.html"
_IN_BROWSER = (bundle.DECODER, bundle.SAMPLER, bundle.COMPLETER)


class Pages:
    """The pages of a service, and the graphs that the explorer runs."""

    def __init__(self, service: Service) -> None:
        self._service = service
        # located without importing plotly, which takes a second
        self._plotly = str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js"))

    def routes(self) -> list[BaseRoute]:
        """All of them; the explorer is at the root."""
        return [
            route("/bundle/manifest.json", self.manifest),
            route("/bundle/{name}", self.graph),
            route("/", self.explorer),
            route("/reference", self.reference),
            route("/explorer/plotly.min.js", self.plotly),
            route("/explorer/plausible.json", self.plausible),
            Mount("/explorer", StaticFiles(directory=_EXPLORER), name="explorer"),
        ]

    async def explorer(self, _: Request) -> Response:
        """The page that shows surfaces."""
        return FileResponse(_EXPLORER / "index.html")

    async def reference(self, _: Request) -> Response:
        """The page that describes the routes."""
        return FileResponse(_REFERENCE)

    async def plotly(self, _: Request) -> Response:
        """The library with which the explorer draws."""
        return FileResponse(self._plotly)

    async def plausible(self, _: Request) -> Response:
        """The numbers of the rules by which the explorer refuses quotes in another unit."""
        return json_response(plausible.limits(self._service.follower.served.surfaces.plausible_medians))

    async def manifest(self, _: Request) -> Response:
        """The manifest of the served bundle."""
        served = self._service.follower.served
        return json_response(served.model.manifest, headers={VERSION: served.version})

    async def graph(self, request: Request) -> Response:
        """A graph of the served bundle, verified by its checksum."""
        name, served = request.path_params["name"], self._service.follower.served
        if name not in _IN_BROWSER:
            raise errors.unknown_file(name, _IN_BROWSER)
        try:
            content = await asyncio.to_thread(bundle.read_content, served.folder / name, served.model.manifest)
        except bundle.BundleError as error:  # the folder holds a newer model, which is not loaded yet
            raise errors.model_exchanged() from error
        return Response(content, headers={VERSION: served.version}, media_type="application/octet-stream")
