"""Requests with the same JSON share its parsed header, but no numbers, and not with another endpoint."""

import gc
import json
import math
import weakref

import numpy as np
import pytest

from deploy.server import oip_protocol
from deploy.server.endpoints import Endpoint, Tensors, make_endpoints, run
from deploy.server.errors import ProtocolError, RefusedError
from deploy.server.request_cache import InferenceHeader, read_header
from tests.deploy.serving import inputs_of
from vae.runtime import SurfaceModel


@pytest.fixture
def found(model: SurfaceModel) -> dict[str, Endpoint]:
    return make_endpoints(model)


def body_of(inputs: Tensors, **header: object) -> tuple[bytes, int]:
    """A request with tensors in binary, and the length of its JSON."""
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": oip_protocol.datatype(array),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in inputs.items()
    ]
    content = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}, **header}).encode()
    return b"".join([content, *(array.tobytes() for array in inputs.values())]), len(content)


def sent(header: InferenceHeader, outputs: Tensors) -> tuple[dict[bytes, bytes], bytes]:
    """Headers and body of a reply."""
    messages = []

    async def send(message: dict) -> None:
        messages.append(message)

    coroutine = header.reply(outputs)({}, None, send)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    start, body = messages
    assert start["status"] == 200
    return dict(start["headers"]), body["body"]


@pytest.mark.parametrize("name", ["decoder", "encoder", "scorer", "sampler", "completer"])
def test_replies_are_those_of_the_protocol_again_and_again(
    found: dict[str, Endpoint], model: SurfaceModel, name: str
) -> None:
    inputs = inputs_of(model)[name]
    body, length = body_of(inputs, id="7")
    first = read_header(found[name], "one", body, length)
    for count in range(1, 40):
        if name == "sampler":  # their number is no part of the JSON
            inputs = {**inputs, "count": np.array([count % 20 + 1])}
            body, length = body_of(inputs, id="7")
        header = read_header(found[name], "one", body, length)
        assert header is first
        read = header.inputs(body, length)
        assert {key: array.tobytes() for key, array in read.items()} == {
            key: array.tobytes() for key, array in inputs.items()
        }
        outputs = run(found[name], read, deadline=math.inf)
        expected = oip_protocol.encode(name, "one", "7", dict.fromkeys(outputs, True), outputs)
        headers, content = sent(header, outputs)
        assert content == expected.body
        assert headers == {
            b"content-length": b"%d" % len(content),
            b"content-type": b"application/octet-stream",
            b"inference-header-content-length": b"%d" % expected.header_length,
        }


def test_cached_headers_end_with_their_endpoint(model: SurfaceModel) -> None:
    """Without the garbage collector, which skips the objects that a worker starts with."""
    body, length = body_of({"z": np.zeros((1, model.latents), np.float32)})
    decoder = make_endpoints(model)["decoder"]
    read_header(decoder, "one", body, length)
    alive = weakref.ref(decoder)
    gc.disable()
    try:
        del decoder
        assert alive() is None
    finally:
        gc.enable()


def test_a_cached_header_belongs_to_one_endpoint(found: dict[str, Endpoint], model: SurfaceModel) -> None:
    body, length = body_of({"iv": np.full((1, *model.grid.shape), 0.2, np.float32)})
    assert read_header(found["encoder"], "one", body, length) is not read_header(found["scorer"], "one", body, length)
    with pytest.raises(RefusedError, match="decoder has no input 'iv'"):
        read_header(found["decoder"], "one", body, length)


def test_the_cache_is_bounded(found: dict[str, Endpoint], model: SurfaceModel) -> None:
    decoder, z = found["decoder"], np.zeros((1, model.latents), np.float32)
    for number in range(600):
        read_header(decoder, "one", *body_of({"z": z}, id=str(number)))
    assert len(decoder.header_cache) == 256
    last = body_of({"z": z}, id="599")
    assert read_header(decoder, "one", *last) is read_header(decoder, "one", *last)
    long = body_of({"z": z}, id="x" * 5000)
    assert read_header(decoder, "one", *long) is not read_header(decoder, "one", *long)


def test_what_a_body_lacks_is_said_however_often_its_json_was_read(
    found: dict[str, Endpoint], model: SurfaceModel
) -> None:
    body, length = body_of({"z": np.zeros((2, model.latents), np.float32)})
    for right in (False, True):
        for wrong in (body[:-1], body + b"x"):
            header = read_header(found["decoder"], "one", wrong, length)
            with pytest.raises(ProtocolError, match=f"have {len(wrong) - length} bytes, but binary_data_size says"):
                header.inputs(wrong, length)
            assert bool(found["decoder"].header_cache) is right, "a body that does not fit leaves nothing"
        assert read_header(found["decoder"], "one", body, length).inputs(body, length)["z"].shape == (2, model.latents)


def test_json_with_its_numbers_is_not_kept(found: dict[str, Endpoint], model: SurfaceModel) -> None:
    tensor = {"name": "z", "shape": [1, model.latents], "datatype": "FP32", "data": [0.0] * model.latents}
    body = json.dumps({"inputs": [tensor]}).encode()
    read_header(found["decoder"], "one", body, len(body))
    read_header(found["decoder"], "one", body + b"x", len(body))
    assert not found["decoder"].header_cache
