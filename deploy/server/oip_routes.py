"""The routes of the Open Inference Protocol: health, metadata, inference."""

from functools import partial
from importlib.metadata import version as package_version

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.server import oip_protocol
from deploy.server.answers import Live, ModelMetadata, ModelReady, Ready, ServerMetadata, TensorMetadata, json_response
from deploy.server.endpoints import Endpoint, Tensor, Tensors
from deploy.server.limits import QUICK_JSON, Body
from deploy.server.middleware import route
from deploy.server.request_cache import InferenceHeader, Reply, read_header
from deploy.server.served import Served
from deploy.server.state import Service

PACKAGE = package_version("volvae")
EXTENSIONS = ("binary_tensor_data",)
_HEADER_LENGTH = oip_protocol.HEADER_LENGTH.encode()
_VERSIONED = ("", "/versions/{version}")


class OipRoutes:
    """The routes over a service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """All of them; those of a model exist with and without a version."""
        models = [
            route(f"/v2/models/{{model}}{version}{path}", function, method)
            for path, function, method in (
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
        """Name, version and protocol extensions of the server."""
        return json_response(ServerMetadata("volvae", PACKAGE, [*EXTENSIONS]))

    async def live(self, _: Request) -> Response:
        """Whether the server answers at all."""
        return json_response(Live(live=True))

    async def ready(self, _: Request) -> Response:
        """Whether the server should be sent requests: not while it drains. It listens only once its models are warm."""
        ready = not self._service.draining
        return json_response(Ready(ready), 200 if ready else 503)

    async def model(self, request: Request) -> Response:
        """Inputs and outputs of a model."""
        served, endpoint = self._find(request)
        return json_response(metadata(endpoint, served.version))

    async def model_ready(self, request: Request) -> Response:
        """Whether a model can be called."""
        _, endpoint = self._find(request)
        ready = not self._service.draining
        return json_response(ModelReady(endpoint.name, ready), 200 if ready else 503)

    async def infer(self, request: Request) -> Reply:
        """Outputs of a model, in JSON or in binary."""
        served, endpoint = self._find(request)
        with Body(self._service.limits) as body:
            content = await body.read(request)
            length = oip_protocol.json_length(_header_length(request), len(content))
            self._service.limits.check_json(content, length)
            engine = self._service.engine
            deadline = engine.deadline()
            with self._service.limits.admission:
                parsed = partial(_parsed, endpoint, served.version, content, length)
                header, inputs = parsed() if length <= QUICK_JSON else await engine.in_thread(parsed, deadline)
                size = endpoint.rows(inputs) * endpoint.row_bytes
                self._service.limits.check_answer(size, in_json=header.json_output)
                outputs = await engine.call(endpoint, inputs, deadline)
                if header.json_output and size > QUICK_JSON:
                    return await engine.in_thread(partial(header.reply, outputs), deadline)
        return header.reply(outputs)

    def _find(self, request: Request) -> tuple[Served, Endpoint]:
        served = self._service.follower.served
        version = request.path_params.get("version", served.version)
        return served, served.endpoint(request.path_params["model"], version)


def metadata(endpoint: Endpoint, version: str) -> ModelMetadata:
    """Inputs and outputs of a model."""
    return ModelMetadata(
        name=endpoint.name,
        versions=[version],
        platform="onnx_onnxv1",
        inputs=[_metadata(tensor) for tensor in endpoint.inputs],
        outputs=[_metadata(tensor) for tensor in endpoint.outputs],
    )


def _parsed(endpoint: Endpoint, version: str, content: bytes, length: int) -> tuple[InferenceHeader, Tensors]:
    """The header and the inputs of a request whose JSON has this length."""
    header = read_header(endpoint, version, content, length)
    return header, header.inputs(content, length)


def _header_length(request: Request) -> bytes | None:
    for name, value in request.scope["headers"]:
        if name == _HEADER_LENGTH:
            return value  # type: ignore[no-any-return]
    return None


def _metadata(tensor: Tensor) -> TensorMetadata:
    return TensorMetadata(tensor.name, tensor.datatype, list(tensor.shape))
