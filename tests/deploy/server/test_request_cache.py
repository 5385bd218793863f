"""What requests that say the same share: never the numbers, never the model."""

import gc
import json
import math
import weakref

import numpy as np
import pytest

from deploy.server import oip_protocol
from deploy.server.endpoints import Model, RefusedError, Tensors, models, run
from deploy.server.oip_protocol import ProtocolError
from deploy.server.request_cache import Plan, plan_of
from tests.deploy.serving import inputs_of
from vae.runtime import SurfaceModel


@pytest.fixture
def found(model: SurfaceModel) -> dict[str, Model]:
    return models(model)


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


def sent(plan: Plan, outputs: Tensors) -> tuple[dict[bytes, bytes], bytes]:
    """Headers and body of a reply."""
    messages = []

    async def send(message: dict) -> None:
        messages.append(message)

    coroutine = plan.reply(outputs)({}, None, send)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    start, body = messages
    assert start["status"] == 200
    return dict(start["headers"]), body["body"]


@pytest.mark.parametrize("name", ["decoder", "encoder", "scorer", "sampler", "completer"])
def test_replies_are_those_of_the_protocol_again_and_again(
    found: dict[str, Model], model: SurfaceModel, name: str
) -> None:
    inputs = inputs_of(model)[name]
    body, length = body_of(inputs, id="7")
    first = plan_of(found[name], "one", body, length)
    for count in range(1, 40):
        if name == "sampler":  # their number is no part of the JSON
            inputs = {**inputs, "count": np.array([count % 20 + 1])}
            body, length = body_of(inputs, id="7")
        plan = plan_of(found[name], "one", body, length)
        assert plan is first
        read = plan.inputs(body, length)
        assert {key: array.tobytes() for key, array in read.items()} == {
            key: array.tobytes() for key, array in inputs.items()
        }
        outputs = run(found[name], read, until=math.inf)
        expected = oip_protocol.encode(name, "one", "7", dict.fromkeys(outputs, True), outputs)
        headers, content = sent(plan, outputs)
        assert content == expected.body
        assert headers == {
            b"content-length": b"%d" % len(content),
            b"content-type": b"application/octet-stream",
            b"inference-header-content-length": b"%d" % expected.header_length,
        }


def test_plans_end_with_their_model(model: SurfaceModel) -> None:
    """By themselves: what a worker starts with is never collected."""
    body, length = body_of({"z": np.zeros((1, model.latents), np.float32)})
    decoder = models(model)["decoder"]
    plan_of(decoder, "one", body, length)
    alive = weakref.ref(decoder)
    gc.disable()
    try:
        del decoder
        assert alive() is None
    finally:
        gc.enable()


def test_plans_are_of_one_model(found: dict[str, Model], model: SurfaceModel) -> None:
    body, length = body_of({"iv": np.full((1, *model.grid.shape), 0.2, np.float32)})
    assert plan_of(found["encoder"], "one", body, length) is not plan_of(found["scorer"], "one", body, length)
    with pytest.raises(RefusedError, match="decoder has no input 'iv'"):
        plan_of(found["decoder"], "one", body, length)


def test_so_many_plans_are_kept(found: dict[str, Model], model: SurfaceModel) -> None:
    decoder, z = found["decoder"], np.zeros((1, model.latents), np.float32)
    for number in range(600):
        plan_of(decoder, "one", *body_of({"z": z}, id=str(number)))
    assert len(decoder.plans) == 256
    last = body_of({"z": z}, id="599")
    assert plan_of(decoder, "one", *last) is plan_of(decoder, "one", *last)
    long = body_of({"z": z}, id="x" * 5000)
    assert plan_of(decoder, "one", *long) is not plan_of(decoder, "one", *long)


def test_what_a_body_lacks_is_said_however_often_its_json_was_read(
    found: dict[str, Model], model: SurfaceModel
) -> None:
    body, length = body_of({"z": np.zeros((2, model.latents), np.float32)})
    for right in (False, True):
        for wrong in (body[:-1], body + b"x"):
            plan = plan_of(found["decoder"], "one", wrong, length)
            with pytest.raises(ProtocolError, match=f"have {len(wrong) - length} bytes, but binary_data_size says"):
                plan.inputs(wrong, length)
            assert bool(found["decoder"].plans) is right, "a body that does not fit leaves nothing"
        assert plan_of(found["decoder"], "one", body, length).inputs(body, length)["z"].shape == (2, model.latents)


def test_json_with_its_numbers_is_not_kept(found: dict[str, Model], model: SurfaceModel) -> None:
    tensor = {"name": "z", "shape": [1, model.latents], "datatype": "FP32", "data": [0.0] * model.latents}
    body = json.dumps({"inputs": [tensor]}).encode()
    plan_of(found["decoder"], "one", body, len(body))
    plan_of(found["decoder"], "one", body + b"x", len(body))
    assert not found["decoder"].plans
