import json

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.deploy.serving import Server, decoder_request, inputs_of
from vae.runtime import SurfaceModel

MODELS = ("decoder", "encoder", "sampler", "completer", "scorer")


@pytest.fixture
def client(server: Server):
    with triton.InferenceServerClient(server.address) as client:
        yield client


def outputs_of(model: SurfaceModel, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same by the runtime."""
    if name == "decoder":
        return {"iv": model.decode(inputs["z"])}
    if name == "sampler":
        draws = model.draw(3, seed=2**64 - 3, offset=11, temperature=0.5)
        return {"iv": draws.iv, "z": draws.latents}
    if name == "completer":
        found = model.complete(inputs["iv"], tenor=inputs["tenor"], log_moneyness=inputs["log_moneyness"])
        return {"surface": found.iv, "std": found.std, "z": found.latents, "fitted": found.fitted, "used": found.used}
    iv = np.where(inputs.get("mask", np.ones_like(inputs["iv"])) > 0, inputs["iv"], np.nan)
    found = (model.encode(iv) if name == "encoder" else model.score(iv))._asdict()
    return {output: values for output, values in found.items() if "percentile" not in output}


def test_a_client_of_tritons_finds_server_and_models(client, server: Server) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "volvae"
    assert "binary_tensor_data" in metadata["extensions"]
    version = server.version()
    for name in MODELS:
        assert client.is_model_ready(name)
        assert client.is_model_ready(name, version)
        found = client.get_model_metadata(name, version)
        assert found["versions"] == [version]
        assert found["platform"] == "onnx_onnxv1"
        assert found["inputs"]
        assert found["outputs"]
    assert not client.is_model_ready("nothing")
    assert not client.is_model_ready("decoder", "0")


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("name", MODELS)
def test_numbers_are_those_of_the_runtime(
    client, model: SurfaceModel, server: Server, name: str, *, binary: bool
) -> None:
    values = inputs_of(model)[name]
    expected = outputs_of(model, name, values)
    sent = [triton.InferInput(key, value.shape, np_to_triton_dtype(value.dtype)) for key, value in values.items()]
    for tensor, value in zip(sent, values.values(), strict=True):
        tensor.set_data_from_numpy(value, binary_data=binary)
    wanted = [triton.InferRequestedOutput(key, binary_data=binary) for key in expected]
    result = client.infer(name, sent, outputs=wanted, request_id="42", model_version=server.version())

    response = result.get_response()
    assert response["id"] == "42"
    assert response["model_name"] == name
    assert response["model_version"] == server.version()
    for key, array in expected.items():
        found = result.as_numpy(key)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_metadata_says_what_a_model_reads(client, model: SurfaceModel) -> None:
    for name, values in inputs_of(model).items():
        declared = {tensor["name"]: tensor for tensor in client.get_model_metadata(name)["inputs"]}
        assert declared.keys() == values.keys()
        for key, value in values.items():
            assert declared[key]["datatype"] == np_to_triton_dtype(value.dtype)
            assert all(want in (-1, have) for want, have in zip(declared[key]["shape"], value.shape, strict=True))


def test_an_error_reaches_the_client_as_the_protocol_says(client, model: SurfaceModel) -> None:
    tensor = triton.InferInput("z", [1, model.latents + 1], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, model.latents + 1), np.float32))
    with pytest.raises(InferenceServerException, match=r"input 'z' has shape \[1, 4\]; decoder reads \[-1, 3\]"):
        client.infer("decoder", [tensor])


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("decoder", "{", 400, "the request is not one of the protocol"),
        ("decoder", b'{"x\xff": 1, "inputs": []}', 400, "the request is not UTF-8, as JSON is: invalid start byte"),
        ("decoder", '{"inputs": []}', 400, "decoder needs the input 'z'"),
        ("nothing", '{"inputs": []}', 404, "there is no model 'nothing'; there are decoder,"),
        ("decoder/versions/0", '{"inputs": []}', 404, "decoder has no version '0'; it has"),
        (
            "decoder",
            '{"inputs": [{"name": "z", "shape": [1, 3], "datatype": "FP32", "data": [1, null, 2]}]}',
            400,
            "z must be finite, but row 0 is not",
        ),
        (
            "decoder",
            '{"inputs": [{"name": "z", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 2]}], '
            '"outputs": [{"name": "vol"}]}',
            400,
            "decoder has no output 'vol'",
        ),
        (
            "sampler",
            '{"inputs": [{"name": "key", "shape": [1], "datatype": "UINT64", "data": [1]}, '
            '{"name": "count", "shape": [1], "datatype": "INT64", "data": [9000000000]}]}',
            400,
            "the answer would have 396000000000 bytes; allowed: 67108864, ask for less",
        ),
        (
            "sampler",
            '{"inputs": [{"name": "key", "shape": [1], "datatype": "UINT64", "data": [1]}, '
            '{"name": "count", "shape": [1], "datatype": "INT64", "data": [-5]}]}',
            400,
            "n is -5; the number of surfaces must be between 1 and 2^50",
        ),
        (
            "scorer",
            '{"inputs": [{"name": "iv", "shape": [1, 2, 4], "datatype": "INT64", "data": '
            + json.dumps([1] * 8)
            + "}]}",
            400,
            "input 'iv' has datatype INT64; scorer reads FP32",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_line(
    server: Server, path: str, body: str | bytes, status: int, message: str
) -> None:
    answer = server.ask("POST", f"/v2/models/{path}/infer", body)
    assert answer.status == status
    assert answer.json().keys() == {"error"}
    assert message in answer.json()["error"]


_FOREIGN_FIELDS = {
    "the SDK of KServe names the model": {"id": "7b1c", "model_name": "volvae", "model_version": None},
    "an id that is null": {"id": None},
    "everything optional is null": {"id": None, "outputs": None, "parameters": None},
    "the codecs of MLServer": {"parameters": {"content_type": "np", "headers": {"trace": "1"}}},
    "a default of the binary extension that is null": {"parameters": {"binary_data_output": None}},
    "an output with parameters": {
        "outputs": [{"name": "iv", "parameters": {"content_type": "np", "binary_data": None}}]
    },
    "an output described in full": {
        "outputs": [{"name": "iv", "datatype": "FP32", "shape": [1, 2, 4], "parameters": None}]
    },
    "no output named": {"outputs": []},
}
_FOREIGN_PARAMETERS = (None, {}, {"content_type": "np", "hello": {"world": [1]}}, {"binary_data_size": None})


def test_bodies_of_other_clients_have_the_answer_of_a_plain_one(server: Server, model: SurfaceModel) -> None:
    """As KServe's ``InferRequest.to_rest`` and MLServer's ``InferenceRequest`` write them."""
    z = np.linspace(-1.0, 1.0, model.latents, dtype=np.float32)[None]
    tensor = {"name": "z", "shape": list(z.shape), "datatype": "FP32", "data": z.ravel().tolist()}
    bodies = {name: {"inputs": [tensor], **fields} for name, fields in _FOREIGN_FIELDS.items()}
    bodies |= {str(own): {"inputs": [tensor | {"parameters": own}]} for own in _FOREIGN_PARAMETERS}
    for name, body in bodies.items():
        answer = server.ask("POST", "/v2/models/decoder/infer", json.dumps(body))
        assert answer.status == 200, name
        (output,) = answer.json()["outputs"]
        iv = np.array(output["data"], np.float32).reshape(output["shape"])
        np.testing.assert_array_equal(iv, model.decode(z), err_msg=name)


def test_double_precision_is_refused_by_name(server: Server, model: SurfaceModel) -> None:
    tensor = {"name": "z", "shape": [1, model.latents], "datatype": "FP64", "data": [0.0] * model.latents}
    answer = server.ask("POST", "/v2/models/decoder/infer", json.dumps({"inputs": [tensor]}))
    assert answer.status == 400
    assert "input 'z' has datatype FP64; decoder reads FP32" in answer.json()["error"]


def test_unknown_paths_and_methods_are_errors_of_the_protocol(server: Server) -> None:
    for method, path, status in (("GET", "/v2/nothing", 404), ("GET", "/v2/models/decoder/infer", 405)):
        answer = server.ask(method, path)
        assert answer.status == status
        assert answer.json()["error"]


def test_requests_that_come_together_get_their_own_answers(server: Server, model: SurfaceModel) -> None:
    """They are computed together; one that cannot be read harms none of the others."""
    z = np.random.default_rng(2).standard_normal((20, model.latents)).astype(np.float32)
    z[7] = np.inf
    clients = [triton.InferenceServerClient(server.address) for _ in z]
    pending = []
    for client, row in zip(clients, z, strict=True):
        tensor = triton.InferInput("z", [1, model.latents], "FP32")
        tensor.set_data_from_numpy(row[None])
        pending.append(client.async_infer("decoder", [tensor]))
    for number, request in enumerate(pending):
        if number == 7:
            with pytest.raises(InferenceServerException, match="z must be finite"):
                request.get_result()
        else:
            np.testing.assert_array_equal(request.get_result().as_numpy("iv"), model.decode(z[number : number + 1]))
    for client in clients:
        client.close()


def test_binary_outputs_by_default_where_the_request_says_so(server: Server, model: SurfaceModel) -> None:
    asked = json.loads(decoder_request(np.zeros((1, model.latents), np.float32)))
    answer = server.ask(
        "POST", "/v2/models/decoder/infer", json.dumps(asked | {"parameters": {"binary_data_output": True}})
    )
    length = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.body[:length])["outputs"]
    assert output["parameters"]["binary_data_size"] == len(answer.body) - length
    iv = np.frombuffer(answer.body[length:], "<f4").reshape(output["shape"])
    np.testing.assert_array_equal(iv, model.decode(np.zeros((1, model.latents))))
