"""What requests that say the same share: never the numbers, never the model."""

import json
from pathlib import Path

import numpy as np
import pytest

from deploy import protocol
from deploy.follow import Served
from deploy.models import RefusedError, Tensors, models, run
from deploy.plan import Plan, Plans
from deploy.protocol import ProtocolError
from tests.deploy.serving import inputs_of
from vae.runtime import SurfaceModel


@pytest.fixture(scope="module")
def served(model: SurfaceModel) -> Served:
    return Served(Path(), model, models(model), "one")


def body_of(inputs: Tensors, **header: object) -> tuple[bytes, int]:
    """A request with tensors in binary, and the length of its JSON."""
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": protocol.datatype(array),
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
def test_replies_are_those_of_the_protocol_again_and_again(served: Served, model: SurfaceModel, name: str) -> None:
    plans, found = Plans(), served.models[name]
    inputs = inputs_of(model)[name]
    body, length = body_of(inputs, id="7")
    request = protocol.read(body[:length])
    for count in range(1, 40):  # samples: their number is no part of the JSON
        if name == "sampler":
            inputs = {**inputs, "count": np.array([count % 20 + 1])}
            body, length = body_of(inputs, id="7")
        plan = plans(served, found, body, length)
        read = plan.inputs(body, length)
        assert {key: array.tobytes() for key, array in read.items()} == {
            key: array.tobytes() for key, array in inputs.items()
        }
        outputs = run(found, read, until=np.inf)
        expected = protocol.encode(name, "one", "7", dict.fromkeys(outputs, True), outputs)
        headers, content = sent(plan, outputs)
        assert content == expected.body
        assert headers == {
            b"content-length": b"%d" % len(content),
            b"content-type": b"application/octet-stream",
            b"inference-header-content-length": b"%d" % expected.header_length,
        }
        assert plan is plans(served, found, body, length)
    assert request.id == "7"


def test_a_plan_ends_with_the_model_that_it_was_made_for(served: Served, model: SurfaceModel) -> None:
    plans, other = Plans(), Served(Path(), model, models(model), "two")
    body, length = body_of({"z": np.zeros((1, model.latents), np.float32)})
    before = plans(served, served.models["decoder"], body, length)
    after = plans(other, other.models["decoder"], body, length)
    assert b'"model_version":"two"' in sent(after, {"iv": np.zeros((1, *model.grid.shape), np.float32)})[1]
    assert plans(other, other.models["decoder"], body, length) is after
    assert plans(served, served.models["decoder"], body, length) is not before, "none is kept of a model that went"


def test_one_json_for_two_models_is_two_plans(served: Served, model: SurfaceModel) -> None:
    plans = Plans()
    body, length = body_of({"iv": np.full((1, *model.grid.shape), 0.2, np.float32)})
    encoder, scorer = (plans(served, served.models[name], body, length) for name in ("encoder", "scorer"))
    assert encoder is not scorer
    with pytest.raises(RefusedError, match="decoder has no input 'iv'"):
        plans(served, served.models["decoder"], body, length)


def test_what_a_body_lacks_is_said_however_often_its_json_was_read(served: Served, model: SurfaceModel) -> None:
    plans, decoder = Plans(), served.models["decoder"]
    body, length = body_of({"z": np.zeros((2, model.latents), np.float32)})
    for wrong in (body[:-1], body + b"x", body):
        plan = plans(served, decoder, wrong, length)
        if wrong == body:
            assert plan.inputs(wrong, length)["z"].shape == (2, model.latents)
        else:
            with pytest.raises(ProtocolError, match=f"have {len(wrong) - length} bytes, but binary_data_size says"):
                plan.inputs(wrong, length)


def test_json_with_its_numbers_is_not_kept(served: Served, model: SurfaceModel) -> None:
    plans, decoder = Plans(), served.models["decoder"]
    tensor = {"name": "z", "shape": [1, model.latents], "datatype": "FP32", "data": [0.0] * model.latents}
    body = json.dumps({"inputs": [tensor]}).encode()
    assert plans(served, decoder, body, len(body)) is not plans(served, decoder, body, len(body))
