"""The Open Inference Protocol over gRPC: Triton's own client, the same bits as over HTTP, and what is refused."""

import asyncio
import math
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2
from tritonclient.utils import np_to_triton_dtype

from deploy.server import grpc_server, oip_messages, run, trial
from deploy.server.errors import BusyError, LateError
from deploy.server.metrics import Metrics
from deploy.server.oip_messages import FIELDS, MESSAGES
from deploy.server.settings import Settings
from deploy.server.state import Service
from tests.deploy.server.test_oip_routes import MODELS
from tests.deploy.serving import Server, inputs_of, serving
from vae.runtime import SurfaceModel

_TOKEN = {"authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def both(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two workers that asks for a token, over HTTP and gRPC."""
    folder = tmp_path_factory.mktemp("grpc")
    options = ("--grpc-port", "0", "--workers", "2", "--max-body", "4096")
    with serving(bundle, folder, *options, environment={"VOLVAE_TOKEN": "secret"}) as found:
        yield found


@pytest.fixture
def address(both: Server) -> str:
    return f"127.0.0.1:{both.said('listens')[0]['grpc_port']}"


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as client:
        yield client


def tensors(kind, values: dict[str, np.ndarray]) -> list:
    found = []
    for name, value in values.items():
        found.append(kind.InferInput(name, value.shape, np_to_triton_dtype(value.dtype)))
        found[-1].set_data_from_numpy(value)
    return found


def test_messages_are_those_of_the_public_protocol() -> None:
    """Each field of ours beside that of the classes that come with Triton's client."""
    for name in FIELDS:
        outer = [service_pb2, service_pb2.ModelInferRequest, service_pb2.ModelInferResponse]
        outer.append(service_pb2.ModelMetadataResponse)
        theirs = next(getattr(place, name) for place in outer if hasattr(place, name))
        for field in MESSAGES[name].DESCRIPTOR.fields:
            other = theirs.DESCRIPTOR.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated)


def test_a_client_of_tritons_finds_server_and_models(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata(headers=_TOKEN).name == "volvae"
    for name in MODELS:
        assert client.is_model_ready(name, headers=_TOKEN)
        found = client.get_model_metadata(name, headers=_TOKEN)
        assert found.platform == "onnx_onnxv1"
        assert found.inputs[0].shape
        assert found.outputs[0].name


@pytest.mark.parametrize("name", MODELS)
def test_bits_are_those_over_http(
    client: triton.InferenceServerClient, both: Server, model: SurfaceModel, name: str
) -> None:
    values = inputs_of(model)[name]
    found = client.infer(name, tensors(triton, values), request_id="a", headers=_TOKEN)
    with tritonclient.http.InferenceServerClient(both.address) as over_http:
        expected = over_http.infer(name, tensors(tritonclient.http, values), headers=dict(_TOKEN))  # it adds to them
    theirs = expected.get_response()
    assert (found.get_response().id, found.get_response().model_version) == ("a", theirs["model_version"])
    for output in theirs["outputs"]:
        np.testing.assert_array_equal(found.as_numpy(output["name"]), expected.as_numpy(output["name"]), strict=True)


def test_outputs_may_be_named_and_numbers_may_be_fields(address: str, model: SurfaceModel) -> None:
    """As clients send them that fill in the messages themselves."""
    z = model.draw(2, seed=3).latents
    request = service_pb2.ModelInferRequest(model_name="decoder")
    request.inputs.add(name="z", datatype="FP32", shape=z.shape).contents.fp32_contents.extend(z.ravel().tolist())
    request.outputs.add(name="iv")
    found = call(address, "ModelInfer", request.SerializeToString())
    (content,) = service_pb2.ModelInferResponse.FromString(found).raw_output_contents
    np.testing.assert_array_equal(np.frombuffer(content, "<f4"), model.decode(z).ravel())


def call(address: str, method: str, content: bytes, metadata: dict[str, str] = _TOKEN, **options: object) -> bytes:
    with grpc.insecure_channel(address) as channel:
        return channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(
            content, metadata=tuple(metadata.items()), timeout=60, **options
        )


def decoder(shape: tuple[int, ...] = (1, 3), content: bytes | None = bytes(12), **fields: object) -> bytes:
    request = service_pb2.ModelInferRequest(**{"model_name": "decoder", **fields})
    request.inputs.add(name="z", datatype="FP32", shape=shape)
    request.raw_input_contents.extend([] if content is None else [content])
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (decoder(model_name="nothing"), "NOT_FOUND", "no model 'nothing'; there are decoder"),
        (decoder(model_version="0"), "NOT_FOUND", "decoder has no version '0'"),
        (decoder((1, 9)), "INVALID_ARGUMENT", "input 'z' has shape [1, 9]; decoder reads [-1, "),
        (decoder((0, 3)), "INVALID_ARGUMENT", "axes are 1 or longer"),
        (decoder(content=bytes(11)), "INVALID_ARGUMENT", "has 2.75 numbers"),
        (decoder(content=None), "INVALID_ARGUMENT", "of shape [1, "),
        (decoder() + decoder(), "INVALID_ARGUMENT", "an input is given twice"),
        (decoder() + b"\x3a\x00", "INVALID_ARGUMENT", "there are 1 inputs, but 2 raw_input_contents"),
        (decoder() + b"\x32\x03\x0a\x01x", "INVALID_ARGUMENT", "decoder has no output 'x'; it has iv"),
        (b"\x2a\x00" * 1025, "INVALID_ARGUMENT", "a message has at most 1024 fields"),
        (b"\x0a\xff", "INVALID_ARGUMENT", "not one of the protocol: it ends too early"),
        (b"\x0a\x01\xff", "INVALID_ARGUMENT", "not one of the protocol"),
        (decoder((8000, 3), bytes(96_000)), "RESOURCE_EXHAUSTED", "larger than max"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_what_cannot_be_answered_is_refused_in_a_line(
    address: str, model: SurfaceModel, content: bytes, code: str, message: str
) -> None:
    assert model.latents == 3, "or the requests fit no model"
    with pytest.raises(grpc.RpcError) as raised:
        call(address, "ModelInfer", content)
    assert raised.value.code().name == code
    assert message in raised.value.details()


@pytest.mark.parametrize("metadata", [{}, {"authorization": "Bearer other"}, {"authorization": "secret"}])
def test_a_call_needs_the_token(address: str, metadata: dict[str, str]) -> None:
    assert call(address, "ServerLive", b"", metadata)
    with pytest.raises(grpc.RpcError, match="a bearer token is needed"):
        call(address, "ServerMetadata", b"", metadata)


def test_a_compressed_message_is_refused(address: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        call(address, "ModelInfer", decoder(content=bytes(2000)), compression=grpc.Compression.Gzip)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_calls_are_counted(address: str, both: Server) -> None:
    call(address, "ServerLive", b"")
    answer = both.ask("GET", "/metrics", headers=_TOKEN).body.decode()
    assert 'volvae_request_seconds_count{route="grpc_ServerLive",status="200"}' in answer


def test_a_port_that_is_taken_is_said(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_try", lambda *_: "")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(bundle, port=0, grpc_port=taken.getsockname()[1])
        with pytest.raises(ValueError, match="cannot be listened at for gRPC: Address already in use"):
            run.run(settings)


class AbortedError(Exception):
    """As grpc ends a call."""


class Context:
    """A call without metadata, whose request is empty."""

    def invocation_metadata(self) -> None:
        return None

    async def read(self) -> bytes:
        return b""

    async def abort(self, code: grpc.StatusCode, reason: str) -> None:
        raise AbortedError(code.name, reason)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (BusyError(), "RESOURCE_EXHAUSTED", "the queue is full; ask again later"),
        (LateError(), "DEADLINE_EXCEEDED", "there was no answer before the deadline"),
        (KeyError("secret"), "INTERNAL", "the server failed; its log says where"),
    ],
)
def test_errors_have_codes_and_a_fault_of_the_server_tells_nothing(
    bundle: Path, counters: Metrics, error: Exception, code: str, reason: str
) -> None:
    follower = SimpleNamespace(served=None)
    routes = grpc_server._Routes(Service(Settings(bundle), follower, counters))

    async def fails(_: object, __: object) -> None:
        raise error

    with pytest.raises(AbortedError) as raised:
        asyncio.run(routes._answering("ServerLive", fails)(None, Context()))
    assert raised.value.args == (code, reason)


def test_a_client_that_waits_for_less_time_has_an_earlier_deadline() -> None:
    assert grpc_server._deadline(SimpleNamespace(time_remaining=lambda: None)) == math.inf
    now = time.monotonic()
    found = grpc_server._deadline(SimpleNamespace(time_remaining=lambda: 100.0))
    assert now + 100.0 <= found <= time.monotonic() + 100.0


def test_a_body_of_small_fields_is_counted_no_further_than_it_may_have() -> None:
    """Counted to its end, it would keep the event loop for seconds."""
    assert oip_messages.rest_of(b"\x08\x00" * 1_000_000) == (
        oip_messages.MOST_FIELDS + 1,
        2 * oip_messages.MOST_FIELDS + 2,
    )


_REQUEST = decoder(id="seven")


@given(place=st.integers(0, len(_REQUEST) - 1), byte=st.integers(0, 255), raw=st.binary(max_size=300))
def test_a_message_is_counted_as_it_is_parsed(place: int, byte: int, raw: bytes) -> None:
    """The bytes beside the raw tensors are those of the message without them."""
    request = MESSAGES["ModelInferRequest"].FromString(_REQUEST)
    request.raw_input_contents.append(raw)
    fields, rest = oip_messages.rest_of(request.SerializeToString())
    assert fields == 5
    del request.raw_input_contents[:]
    assert rest == request.ByteSize()
    damaged = bytearray(_REQUEST)
    damaged[place] = byte
    try:
        oip_messages.rest_of(bytes(damaged))
    except ValueError:
        with pytest.raises(oip_messages.DecodeError):
            MESSAGES["ModelInferRequest"].FromString(bytes(damaged))
