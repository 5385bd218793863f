"""The routes of the Open Inference Protocol: health, metadata, inference."""

from importlib.metadata import version as package_version

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.server import oip_protocol
from deploy.server.answers import Live, ModelMetadata, ModelReady, Ready, ServerMetadata, TensorMetadata, json_response
from deploy.server.bodies import Body
from deploy.server.endpoints import Model, Tensor
from deploy.server.middleware import route
from deploy.server.reload import Served
from deploy.server.request_cache import Reply, plan_of
from deploy.server.state import Service

_PACKAGE = package_version("volvae")
_HEADER_LENGTH = oip_protocol.HEADER_LENGTH.encode()
_VERSIONED = ("", "/versions/{version}")


class Inference:
    """The protocol over a service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """With and without a version."""
        models = [
            route(f"/v2/models/{{model}}{version}{path}", endpoint, method)
            for path, endpoint, method in (
                ("/infer", self.infer, "POST"),
                ("", self.model, "GET"),
                ("/ready", self.model_ready, "GET"),
            )
            for version in _VERSIONED
        ]
        return [
            *models,
            route("/v2", self.server),
            route("/v2/health/live", self.live),
            route("/v2/health/ready", self.ready),
        ]

    async def server(self, _: Request) -> Response:
        """Name, version and extensions."""
        return json_response(ServerMetadata("volvae", _PACKAGE, ["binary_tensor_data"]))

    async def live(self, _: Request) -> Response:
        """Whether it can answer at all."""
        return json_response(Live(live=True))

    async def ready(self, _: Request) -> Response:
        """Whether it should be sent requests: not while it drains. It listens only once its models are warm."""
        ready = not self._service.draining
        return json_response(Ready(ready), 200 if ready else 503)

    async def model(self, request: Request) -> Response:
        """Inputs and outputs of a model."""
        served, model = self._find(request)
        return json_response(
            ModelMetadata(
                name=model.name,
                versions=[served.version],
                platform="onnx_onnxv1",
                inputs=[_metadata(tensor) for tensor in model.inputs],
                outputs=[_metadata(tensor) for tensor in model.outputs],
            )
        )

    async def model_ready(self, request: Request) -> Response:
        """Whether a model can be called."""
        _, model = self._find(request)
        ready = not self._service.draining
        return json_response(ModelReady(model.name, ready), 200 if ready else 503)

    async def infer(self, request: Request) -> Reply:
        """Outputs of a model, in JSON or in binary."""
        served, model = self._find(request)
        with Body(self._service.bodies) as body:
            content = await body.read(request)
            length = oip_protocol.json_length(_header_length(request), len(content))
            self._service.check_json(length)
            plan = plan_of(model, served.version, content, length)
            inputs = plan.inputs(content, length)
            self._service.check_size(model.rows(inputs) * model.row_bytes, in_json=plan.in_json)
            with self._service.queue:
                outputs = await self._service.engine.call(model, inputs)
        return plan.reply(outputs)

    def _find(self, request: Request) -> tuple[Served, Model]:
        served = self._service.follower.served
        name, version = request.path_params["model"], request.path_params.get("version", served.version)
        if name not in served.models:
            raise HTTPException(404, f"there is no model {name!r}; there are {', '.join(served.models)}")
        if version != served.version:
            raise HTTPException(404, f"{name} has no version {version!r}; it has {served.version!r}")
        return served, served.models[name]


def _header_length(request: Request) -> bytes | None:
    for name, value in request.scope["headers"]:
        if name == _HEADER_LENGTH:
            return value  # type: ignore[no-any-return]
    return None


def _metadata(tensor: Tensor) -> TensorMetadata:
    return TensorMetadata(tensor.name, tensor.datatype, list(tensor.shape))
