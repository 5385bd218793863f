"""The Open Inference Protocol over gRPC: the same models, limits, token and bits as over HTTP, at a port of its own."""

import asyncio
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

from deploy.server import errors, logs, oip_messages, oip_protocol, origin
from deploy.server.answers import ModelMetadata
from deploy.server.bearer import bears
from deploy.server.endpoints import Array, Endpoint, check, check_outputs
from deploy.server.errors import BusyError, ProtocolError
from deploy.server.limits import MAX_HEAD
from deploy.server.oip_messages import MESSAGES, MOST_FIELDS
from deploy.server.oip_protocol import DATATYPES, Input
from deploy.server.oip_routes import EXTENSIONS, PACKAGE, metadata
from deploy.server.settings import Settings
from deploy.server.state import Service

_HEAD = 64 * 1024  # bytes of a request beside its raw tensors, as of an answer
_QUOTED = 100  # letters of a name in a refusal; names of outputs are shorter
_GONE = 499  # status of a call that its client gave up; it is only counted
_OF_PAGES = ("origin", "sec-fetch-site")  # what browsers say of the page that sends a request
_OPEN = frozenset({"ServerLive", "ServerReady"})  # methods that need no token and no place, as probes call them
_STREAMS = 100  # calls at once over one connection, as Go's and Java's servers advise
_IDLE = 75.0  # seconds, as over HTTP
_AGE = 300.0  # seconds after which a client is asked to connect anew; what it does not read is in memory until then
_UNREAD = 4  # answers of the largest size that fit into the memory for those that are sent
_PING = 60.0  # seconds without a frame after which a client is asked whether it is there
_CONTENTS = {"BOOL": "bool", "INT64": "int64", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64"}
#: Codes of gRPC for the statuses that a refusal has over HTTP.
_CODES: Final = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    408: StatusCode.DEADLINE_EXCEEDED,
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
    server = grpc.aio.server(options=_options(settings))
    server.add_generic_rpc_handlers((_Routes(service).handler(),))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    server.add_insecure_port(f"{host}:{settings.grpc_port}")
    await server.start()
    ended = asyncio.create_task(_end(server, service))
    try:
        yield
    finally:
        service.stopping.set()
        await ended


async def _end(server: grpc.aio.Server, service: Service) -> None:
    """Stop when HTTP does: a client that is not served there is not served here either, and both have the same time."""
    await service.stopping.wait()
    await server.stop(service.settings.grace)


def _options(settings: Settings) -> list[tuple[str, int]]:
    """Limits of connections, streams and messages; each is one that HTTP has too.

    Reference: grpc/include/grpc/impl/channel_arg_names.h.
    """
    seconds = {
        "grpc.server_handshake_timeout_ms": settings.receive,  # for a connection that says nothing
        "grpc.http2.settings_timeout": settings.receive,
        "grpc.max_connection_idle_ms": _IDLE,
        "grpc.max_connection_age_ms": _AGE,
        "grpc.max_connection_age_grace_ms": settings.receive + 2.0 * settings.deadline,  # the longest call
        "grpc.keepalive_time_ms": _PING,
        "grpc.keepalive_timeout_ms": settings.receive,
    }
    return [
        ("grpc.max_allowed_incoming_connections", settings.connections),
        ("grpc.max_concurrent_streams", _STREAMS),
        ("grpc.http2.write_buffer_size", 1),  # byte: an answer counts as sent when its reader has room for all of it
        ("grpc.max_metadata_size", MAX_HEAD),  # one beyond the other would refuse by chance between them
        ("grpc.absolute_max_metadata_size", MAX_HEAD),
        ("grpc.max_receive_message_length", settings.max_body + _HEAD),
        ("grpc.max_send_message_length", settings.max_answer + _HEAD),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none: a small message could fill the memory
        ("grpc.so_reuseport", 1),
        *((name, math.ceil(1000.0 * value)) for name, value in seconds.items()),
    ]


class _Routes:
    """The methods of the protocol over a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._unread = 0  # bytes of answers that are sent
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
            # Calls of one message each way look the same on the wire; only as streams can their time be limited.
            {
                name: grpc.stream_stream_rpc_method_handler(self._answering(name, method))
                for name, method in methods.items()
            },
        )

    def _answering(self, name: str, method: _Handler) -> _Handler:
        """The method with a check of the token and size; its exceptions become codes of gRPC, and each call counts."""

        async def answer_to(context: Any) -> Any:  # noqa: ANN401 - of grpc, which has no types, and below
            if name in _OPEN:
                return await method(None, context)
            content = await self._arrived(context)
            with self._service.limits.holding(len(content)):
                return await method(self._message(name, content), context)

        async def answer(_: object, context: Any) -> None:  # noqa: ANN401
            start, status = time.perf_counter(), _GONE
            try:
                self._check(name, context)
                await self._send(await answer_to(context), context)
                status = 200
            except Exception as error:  # noqa: BLE001 - answered
                refusal = errors.response_to(error)
                status = refusal.status_code
                if status == 500:
                    logs.failure("a request failed", error, route=f"grpc_{name}")
                reason = msgspec.json.decode(refusal.body)["error"]
                await context.abort(_CODES.get(status, StatusCode.INTERNAL), reason)
            finally:
                self._service.metrics.answered(f"grpc_{name}", status, time.perf_counter() - start)

        return answer

    async def _arrived(self, context: Any) -> bytes:  # noqa: ANN401 - as above
        """The bytes of a request, which has a place in the queue while they arrive.

        Raises:
            BusyError: there is no place, or answers that nobody takes fill the memory for them.
            HTTPException: they did not arrive in time.
            ProtocolError: the client sent none.
        """
        limits = self._service.limits
        if self._unread > _UNREAD * self._service.settings.max_answer:
            raise BusyError
        try:
            async with asyncio.timeout(limits.receive):
                with limits.admission.arriving():
                    content = await context.read()
        except TimeoutError as error:
            raise errors.request_timeout() from error
        if not isinstance(content, bytes):
            raise ProtocolError("the call ended before its request")
        return content

    async def _send(self, answer: Any, context: Any) -> None:  # noqa: ANN401 - as above
        """Send an answer, for which its reader has as long as his connection may grow old.

        grpc says when all of an answer is taken, not how much: no limit of its own could tell a slow reader from one
        that takes nothing. The end of the connection ends the call for both sides.

        Raises:
            CancelledError: the call or its connection ended before.
        """
        content = answer.SerializeToString()
        size = len(content) + _HEAD
        self._unread += size
        try:
            await context.write(content)
        except grpc.aio.BaseError as error:  # nobody is there to be told
            raise asyncio.CancelledError from error
        finally:
            self._unread -= size

    def _check(self, name: str, context: Any) -> None:  # noqa: ANN401 - as above
        """Raise HTTPException for a wrong token, or without one for a page of another site.

        Such a page comes through a proxy of grpc-web only, as browsers speak no HTTP/2 without TLS. The name of the
        host, ``:authority``, cannot be checked: grpc does not hand it out.
        """
        given = dict(context.invocation_metadata() or ())
        if self._token is None:
            pages = {key.encode(): str(given[key]).encode() for key in _OF_PAGES if key in given}
            if not origin.is_own(pages):
                raise errors.other_site()
        elif name not in _OPEN and not bears(self._token, given.get("authorization", "").encode()):
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
