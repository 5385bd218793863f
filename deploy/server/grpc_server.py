"""The Open Inference Protocol over gRPC: the same models, limits, token and bits as over HTTP, at a port of its own."""

import math
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from typing import Any, Final

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it writes lines of its own, which are no JSON; read by the import

import grpc
import msgspec
import numpy as np
from grpc import StatusCode

from deploy.server import errors, logs, oip_messages, oip_protocol
from deploy.server.answers import ModelMetadata
from deploy.server.bearer import bears
from deploy.server.endpoints import Array, Endpoint, check, check_outputs
from deploy.server.errors import ProtocolError
from deploy.server.oip_messages import MESSAGES, MOST_FIELDS
from deploy.server.oip_protocol import DATATYPES, Input
from deploy.server.oip_routes import EXTENSIONS, PACKAGE, metadata
from deploy.server.settings import Settings
from deploy.server.state import Service

_HEAD = 64 * 1024  # bytes of a request beside its raw tensors, as of an answer
_QUOTED = 100  # letters of a name in a refusal; names of outputs are shorter
_GONE = 499  # status of a call that its client gave up; it is only counted
_PROBES = 16  # calls beside those that the queue takes, which learn whether the server is ready
_OPEN = frozenset({"ServerLive", "ServerReady"})  # methods that need no token
_CONTENTS = {"BOOL": "bool", "INT64": "int64", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64"}
#: Codes of gRPC for the statuses that a refusal has over HTTP.
_CODES: Final = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    404: StatusCode.NOT_FOUND,
    413: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    504: StatusCode.DEADLINE_EXCEEDED,
}
_Handler = Callable[[Any, Any], Awaitable[Any]]


@contextmanager
def reserved(settings: Settings) -> Iterator[Settings]:
    """Hold the port of gRPC for the workers, each of which listens at it; the settings name it if any free one will do.

    Raises:
        ValueError: it cannot be listened at.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with closing(socket.socket(family)) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            held.bind((settings.host, settings.grpc_port))
        except OSError as error:
            address = f"{settings.host}:{settings.grpc_port}"
            raise ValueError(f"{address} cannot be listened at for gRPC: {error.strerror}") from error
        yield replace(settings, grpc_port=held.getsockname()[1])


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[None]:
    """Answer calls over gRPC for as long as the block runs; then those in flight have ``grace`` seconds."""
    settings = service.settings
    server = grpc.aio.server(
        maximum_concurrent_rpcs=settings.queue + _PROBES,
        options=[
            ("grpc.max_receive_message_length", settings.max_body + _HEAD),
            ("grpc.max_send_message_length", settings.max_answer + _HEAD),
            ("grpc.compression_enabled_algorithms_bitset", 1),  # none: a small message could fill the memory
            ("grpc.so_reuseport", 1),
        ],
    )
    server.add_generic_rpc_handlers((_Routes(service).handler(),))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    server.add_insecure_port(f"{host}:{settings.grpc_port}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(settings.grace)


class _Routes:
    """The methods of the protocol over a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._token = None if service.settings.token is None else service.settings.token.encode()

    def handler(self) -> grpc.GenericRpcHandler:
        """All of them."""
        methods: dict[str, _Handler] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server,
            "ModelMetadata": self._model,
            "ModelInfer": self._infer,
        }
        return grpc.method_handlers_generic_handler(
            oip_messages.SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    self._answering(name, method), response_serializer=MESSAGES[f"{name}Response"].SerializeToString
                )
                for name, method in methods.items()
            },
        )

    def _answering(self, name: str, method: _Handler) -> _Handler:
        """The method with a check of the token and size; its exceptions become codes of gRPC, and each call counts."""

        async def answer(content: bytes, context: Any) -> Any:  # noqa: ANN401 - of grpc, which has no types
            start, status = time.perf_counter(), _GONE
            try:
                self._check(name, context)
                with self._service.limits.holding(len(content)):
                    found = await method(self._message(name, content), context)
            except Exception as error:  # noqa: BLE001 - answered
                refusal = errors.response_to(error)
                status = refusal.status_code
                if status == 500:
                    logs.failure("a request failed", error, route=f"grpc_{name}")
                reason = msgspec.json.decode(refusal.body)["error"]
                await context.abort(_CODES.get(status, StatusCode.INTERNAL), reason)
            else:
                status = 200
                return found
            finally:
                self._service.metrics.answered(f"grpc_{name}", status, time.perf_counter() - start)

        return answer

    def _check(self, name: str, context: Any) -> None:  # noqa: ANN401 - as above
        """Raise HTTPException for a wrong token."""
        if self._token is None or name in _OPEN:
            return
        given = dict(context.invocation_metadata() or ())
        if not bears(self._token, given.get("authorization", "").encode()):
            raise errors.unauthorized()

    def _message(self, name: str, content: bytes) -> Any:  # noqa: ANN401 - a class that protobuf makes
        """The request of these bytes, which are counted before: protobuf makes an object of two of them.

        Raises:
            ProtocolError: they are no such request.
            HTTPException: it is too large without its raw tensors.
        """
        try:
            fields, rest = oip_messages.rest_of(content)
            if fields > MOST_FIELDS or rest > _HEAD:
                raise errors.grpc_too_large(MOST_FIELDS, _HEAD)
            return MESSAGES[f"{name}Request"].FromString(content)
        except (ValueError, oip_messages.DecodeError) as error:
            raise ProtocolError(f"the request is not one of the protocol: {error}") from error

    async def _live(self, _: Any, __: Any) -> Any:  # noqa: ANN401 - as above, and below
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _ready(self, _: Any, __: Any) -> Any:  # noqa: ANN401
        return MESSAGES["ServerReadyResponse"](ready=not self._service.draining)

    async def _model_ready(self, request: Any, _: Any) -> Any:  # noqa: ANN401
        self._find(request.name, request.version)
        return MESSAGES["ModelReadyResponse"](ready=not self._service.draining)

    async def _server(self, _: Any, __: Any) -> Any:  # noqa: ANN401
        return MESSAGES["ServerMetadataResponse"](name="volvae", version=PACKAGE, extensions=EXTENSIONS)

    async def _model(self, request: Any, _: Any) -> Any:  # noqa: ANN401
        endpoint, version = self._find(request.name, request.version)
        found: ModelMetadata = metadata(endpoint, version)
        return MESSAGES["ModelMetadataResponse"](**msgspec.to_builtins(found))

    async def _infer(self, request: Any, context: Any) -> Any:  # noqa: ANN401
        endpoint, version = self._find(request.model_name, request.model_version)
        limits, engine = self._service.limits, self._service.engine
        deadline = min(engine.deadline(), _deadline(context))
        names = _wanted(endpoint, [output.name for output in request.outputs])
        with limits.admission:
            inputs = _inputs(endpoint, request)
            limits.check_answer(endpoint.rows(inputs) * endpoint.row_bytes, in_json=False)
            outputs = await engine.call(endpoint, inputs, deadline)
        answer = MESSAGES["ModelInferResponse"](model_name=endpoint.name, model_version=version, id=request.id)
        for name in names:
            array = outputs[name]
            answer.outputs.add(name=name, datatype=oip_protocol.datatype(array), shape=array.shape)
            answer.raw_output_contents.append(array.tobytes())
        return answer

    def _find(self, name: str, version: str) -> tuple[Endpoint, str]:
        served = self._service.follower.served
        return served.endpoint(name, version or served.version), served.version


def _deadline(context: Any) -> float:  # noqa: ANN401
    """When the client stops waiting, on the clock ``time.monotonic``."""
    left = context.time_remaining()
    return math.inf if left is None else time.monotonic() + left


def _wanted(endpoint: Endpoint, names: Sequence[str]) -> Sequence[str]:
    """The outputs to answer with; all where none is named.

    Raises:
        RefusedError: the endpoint has no such output.
    """
    check_outputs(endpoint, [name[:_QUOTED] for name in names])
    return names or [output.name for output in endpoint.outputs]


def _inputs(endpoint: Endpoint, request: Any) -> dict[str, Array]:  # noqa: ANN401
    """The inputs of a request, checked.

    Raises:
        ProtocolError: it breaks the protocol.
        RefusedError: the endpoint cannot read such inputs.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise ProtocolError(f"there are {len(request.inputs)} inputs, but {len(raw)} raw_input_contents")
    described = [Input(one.name, one.datatype, tuple(one.shape), None, None) for one in request.inputs]
    if len({tensor.name for tensor in described}) < len(described):
        raise ProtocolError("an input is given twice")
    for tensor in described:
        oip_protocol.check_shape(tensor)
    check(endpoint, described)
    contents = raw or [one.contents for one in request.inputs]
    return {tensor.name: _array(tensor, content) for tensor, content in zip(described, contents, strict=True)}


def _array(tensor: Input, content: Any) -> Array:  # noqa: ANN401 - bytes, or the message of their numbers
    """The numbers of a tensor.

    Raises:
        ProtocolError: they are not as many as its shape says.
    """
    dtype = DATATYPES[tensor.datatype]
    if isinstance(content, bytes):
        found: Array = np.frombuffer(content[: len(content) // dtype.itemsize * dtype.itemsize], dtype)
        given = len(content) / dtype.itemsize
    else:
        found = np.array(getattr(content, f"{_CONTENTS[tensor.datatype]}_contents"), dtype)
        given = len(found)
    if given != math.prod(tensor.shape):
        raise ProtocolError(f"input {tensor.name!r} of shape {list(tensor.shape)} has {given:g} numbers")
    return found.reshape(tensor.shape)
