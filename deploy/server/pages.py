"""Pages for people: the explorer, which runs the model in the browser, and the reference of the HTTP interface."""

import asyncio
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from deploy.server import errors, model_card, packed
from deploy.server.answers import BINARY, JSON, VERSION, to_json
from deploy.server.middleware import route
from deploy.server.served import Served
from deploy.server.state import Service
from vae import bundle
from vae.surface import plausible

_EXPLORER = Path(__file__).parents[1] / "explorer"
_CARD = "volvae-model-card"  # a header: the name of the card beside the manifest, where there is one
_IN_BROWSER = (bundle.DECODER, bundle.SAMPLER, bundle.COMPLETER, bundle.SCORER)


class Pages:
    """The pages of a service, and the graphs that the explorer runs."""

    def __init__(self, service: Service) -> None:
        self._service, self._files = service, packed.Folder(_EXPLORER)
        self._with_card: Served | None = None  # the model that was found to have a card

    def routes(self) -> list[BaseRoute]:
        """All of them; the explorer is at the root."""
        return [
            route("/bundle/manifest.json", self.manifest),
            route(f"/bundle/{model_card.NAME}", self.card),
            route("/bundle/{name}", self.graph),
            route("/", self.explorer),
            route("/reference", self.reference),
            route("/explorer/plausible.json", self.plausible),
            route("/explorer/{path:path}", self._files.get),
        ]

    async def explorer(self, request: Request) -> Response:
        """The page that shows surfaces."""
        return self._files.file("index.html", request)

    async def reference(self, request: Request) -> Response:
        """The page that describes the routes."""
        return self._files.file("reference.html", request)

    async def plausible(self, request: Request) -> Response:
        """The numbers of the rules by which the explorer refuses quotes in another unit."""
        limits = plausible.limits(self._service.follower.served.surfaces.plausible_medians)
        return packed.content(to_json(limits), JSON, request)

    async def manifest(self, request: Request) -> Response:
        """The manifest of the served bundle."""
        served = self._service.follower.served
        if self._with_card is not served:  # one that comes later, as after the bundle of an alias, is looked for again
            found = await asyncio.to_thread(model_card.read, served.folder, served.model.manifest)
            self._with_card = None if found is None else served
        headers = {VERSION: served.version, **({_CARD: model_card.NAME} if self._with_card is served else {})}
        return packed.content(to_json(served.model.manifest), JSON, request, headers, again=False)

    async def card(self, request: Request) -> Response:
        """The model card of the served bundle, Markdown."""
        served = self._service.follower.served
        card = await asyncio.to_thread(model_card.read, served.folder, served.model.manifest)
        if card is None:
            raise errors.no_card()
        return packed.content(card, "text/markdown", request, {VERSION: served.version}, again=False)

    async def graph(self, request: Request) -> Response:
        """A graph of the served bundle, verified by its checksum."""
        name, served = request.path_params["name"], self._service.follower.served
        if name not in _IN_BROWSER:
            raise errors.unknown_file(name, _IN_BROWSER)
        try:
            content = await asyncio.to_thread(bundle.read_content, served.folder / name, served.model.manifest)
        except bundle.BundleError as error:  # the folder holds a newer model, which is not loaded yet
            raise errors.model_exchanged() from error
        packing = asyncio.to_thread(packed.content, content, BINARY, request, {VERSION: served.version}, again=False)
        return await packing
