"""A bundle in a real Triton: its graphs give the bits that the runtime gives, over HTTP and gRPC. `make triton`."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from benchmarks import triton as real_triton
from deploy import triton
from deploy.server.endpoints import make_endpoints
from tests.deploy.serving import inputs_of
from vae.bundle import GRAPHS
from vae.runtime import SurfaceModel

pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.xdist_group("triton")]

DEMO = Path("deploy/demo/bundle")
_NAMES = [name.removesuffix(".onnx") for name in GRAPHS]


@pytest.fixture(scope="module")
def model() -> SurfaceModel:
    return SurfaceModel.load(DEMO, provider="cpu", threads=1)


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_triton.Ports]:
    folder = tmp_path_factory.mktemp("triton")
    triton.write(DEMO, folder)
    with real_triton.serving(folder) as ports:
        yield ports


def infer(
    protocol: ModuleType, ports: real_triton.Ports, name: str, values: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    port = ports.grpc if protocol is tritonclient.grpc else ports.http
    inputs = []
    for key, value in values.items():
        inputs.append(protocol.InferInput(key, list(value.shape), np_to_triton_dtype(value.dtype)))
        inputs[-1].set_data_from_numpy(value)
    with protocol.InferenceServerClient(f"127.0.0.1:{port}") as client:
        answer = client.infer(name, inputs)
    response = answer.get_response(as_json=True) if protocol is tritonclient.grpc else answer.get_response()
    return {output["name"]: answer.as_numpy(output["name"]) for output in response["outputs"]}


@pytest.mark.parametrize("protocol", [tritonclient.http, tritonclient.grpc])
@pytest.mark.parametrize("name", _NAMES)
def test_triton_gives_the_bits_of_the_runtime(
    ports: real_triton.Ports, model: SurfaceModel, protocol: ModuleType, name: str
) -> None:
    """But for what it says of quotes that are not used, and for the axis that Triton asks of a number of each row."""
    values = inputs_of(model)[name]
    expected = make_endpoints(model)[name].call(values)
    found = infer(protocol, ports, name, values)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        used = expected["used"] if key in ("fitted", "fitted_std") else ...
        of_rows = name == "scorer" and value.ndim == 1
        assert found[key].shape == ((*value.shape, 1) if of_rows else value.shape)
        np.testing.assert_array_equal(found[key].reshape(value.shape)[used], value[used])


def test_triton_joins_rows_without_a_change_of_bits(ports: real_triton.Ports, model: SurfaceModel) -> None:
    """Requests that wait together run together."""
    z = np.random.default_rng(3).standard_normal((16, 1, model.latents)).astype(np.float32)
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{ports.http}", concurrency=16) as client:
        waiting = []
        for row in z:
            tensor = tritonclient.http.InferInput("z", list(row.shape), "FP32")
            tensor.set_data_from_numpy(row)
            waiting.append(client.async_infer("decoder", [tensor]))
        for row, answer in zip(z, waiting, strict=True):
            np.testing.assert_array_equal(answer.get_result().as_numpy("iv"), model.decode(row))


def test_triton_refuses_a_tensor_of_another_shape(ports: real_triton.Ports, model: SurfaceModel) -> None:
    with pytest.raises(InferenceServerException, match=r"unexpected shape for input 'z'"):
        infer(tritonclient.http, ports, "decoder", {"z": np.zeros((1, model.latents + 1), np.float32)})
