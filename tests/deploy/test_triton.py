"""The repository for NVIDIA's Triton, read with Triton's own definition of its configuration."""

from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner, Result
from google.protobuf import text_format

from pipeline.cli.main import main
from tests.deploy.serving import inputs_of
from vae.bundle import GRAPHS
from vae.runtime import SurfaceModel

_BATCHED = {"decoder": 4096, "encoder": 4096, "scorer": 256}  # rows of one call
_TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64", "tensor(uint64)": "TYPE_UINT64",
          "tensor(bool)": "TYPE_BOOL"}  # fmt: skip
_NAMES = [name.removesuffix(".onnx") for name in GRAPHS]


@pytest.fixture(scope="module")
def definition() -> ModuleType:
    """Of tritonclient, whose package of that name wants grpc, which this module does not."""
    path = distribution("tritonclient").locate_file("tritonclient/grpc/model_config_pb2.py")
    spec = spec_from_file_location("model_config_pb2", str(path))
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def export(bundle: Path, folder: Path) -> Result:
    return CliRunner().invoke(main, ["export-triton", str(folder), "--bundle", str(bundle)])


@pytest.fixture(scope="module")
def repository(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "models"
    assert export(bundle, folder).exit_code == 0
    return folder


def shape(tensor: onnxruntime.NodeArg) -> list[int]:
    return [axis if isinstance(axis, int) else -1 for axis in tensor.shape]


def test_the_repository_holds_the_graphs_of_the_bundle(repository: Path, bundle: Path) -> None:
    assert {path.name for path in repository.iterdir()} == set(_NAMES)
    for name in _NAMES:
        files = {str(path.relative_to(repository / name)) for path in (repository / name).rglob("*") if path.is_file()}
        assert files == {"config.pbtxt", "1/model.onnx"}
        assert (repository / name / "1/model.onnx").read_bytes() == (bundle / f"{name}.onnx").read_bytes()


@pytest.mark.parametrize("name", _NAMES)
def test_the_configuration_agrees_with_the_graph(repository: Path, definition: ModuleType, name: str) -> None:
    config = text_format.Parse((repository / name / "config.pbtxt").read_text(), definition.ModelConfig())
    session = onnxruntime.InferenceSession(repository / name / "1/model.onnx", providers=["CPUExecutionProvider"])
    assert (config.name, config.backend) == (name, "onnxruntime")
    assert config.max_batch_size == _BATCHED.get(name, 0)
    assert config.HasField("dynamic_batching") == (name in _BATCHED)
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    assert not any(tensor.optional for tensor in config.input), "a graph needs all of its inputs"
    for declared, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [tensor.name for tensor in declared] == [tensor.name for tensor in found]
        for tensor, graph in zip(declared, found, strict=True):
            assert definition.DataType.Name(tensor.data_type) == _TYPES[graph.type]
            dims = list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)
            if name in _BATCHED:
                assert shape(graph)[0] == -1, "the axis that Triton adds"
            assert ([-1] if name in _BATCHED else []) + dims == shape(graph)
            assert np.prod(tensor.dims) == np.prod(dims), "a reshape keeps the numbers"


@pytest.mark.parametrize("name", _BATCHED)
def test_rows_that_triton_may_batch_depend_on_themselves_alone(
    repository: Path, model: SurfaceModel, name: str
) -> None:
    session = onnxruntime.InferenceSession(repository / name / "1/model.onnx", providers=["CPUExecutionProvider"])
    feeds = inputs_of(model)[name]
    whole = session.run(None, feeds)
    for row in range(2):
        alone = session.run(None, {key: array[row : row + 1] for key, array in feeds.items()})
        for one, all_ in zip(alone, whole, strict=True):
            np.testing.assert_array_equal(one[0], all_[row])


@pytest.mark.parametrize("before", [None, "empty", "full", "file", "hidden"])
def test_a_folder_is_written_where_there_is_none_or_nothing_in_it(
    bundle: Path, tmp_path: Path, before: str | None
) -> None:
    folder = tmp_path / "models"
    if before == "file":
        folder.write_text("mine")
    elif before is not None:
        folder.mkdir()
        if before != "empty":
            (folder / (".hidden" if before == "hidden" else "mine")).write_text("mine")
    result = export(bundle, folder)
    if before in (None, "empty"):
        assert result.stdout == f"decoder, encoder, sampler, completer, scorer: {folder}\n"
        return
    assert result.exit_code == 2
    if before != "file":
        assert result.stderr == f"volvae: {folder} is not empty; name a new folder\n"
        (path,) = folder.iterdir()
        assert path.read_text() == "mine"


def test_what_is_no_bundle_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    result = export(tmp_path / "nothing", tmp_path / "models")
    assert result.exit_code == 2
    assert result.stderr.startswith("volvae: ")
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
