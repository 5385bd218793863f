"""Which nodes of the graphs have a kernel in onnxruntime's CUDA provider, as its table of kernels says.

This needs no GPU. A node without a kernel would run on the CPU, with copies before and after it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, defs, parser, shape_inference

from pipeline.export import graph_files
from tests.vae.graphs.test_export import DELTAS, MARKETS, READING, trained
from tests.vae.graphs.test_scenarios import case
from tests.vectors import LIKELIHOODS, trained_on_vectors
from tests.workspace import Workspace
from vae.bundle import GRAPHS, SAMPLER, SCENARIOS, Layout
from vae.graphs.export import OPSET
from vae.graphs.sampler import sampler_graph
from vae.model.autoencoder import Architecture, Vae
from vae.model.flow import Flow, FlowShape
from vae.model.linear import principal_components

FOLDED = {"Constant"}  # onnxruntime turns them into weights before it places nodes


class Node(NamedTuple):
    """A node with the types of its inputs and outputs, "" for one that is left out."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@pytest.fixture(scope="module")
def kernels(reference: Path) -> dict[str, dict]:
    table = json.loads((reference / "cuda_kernels.json").read_text("utf-8"))
    assert version("onnxruntime") == table["checked_with_onnxruntime"], "compare the table with the new version's"
    return table["kernels"]


def nodes(content: bytes) -> list[Node]:
    """All nodes of a graph and of the bodies of its loops and branches."""
    model = shape_inference.infer_shapes(onnx.load_from_string(content), strict_mode=True)
    assert [(imported.domain, imported.version) for imported in model.opset_import] == [("", OPSET)]
    return list(walk(model.graph, {"": ""}))


def walk(graph: onnx.GraphProto, outer: Mapping[str, str]) -> Iterator[Node]:
    types = dict(outer)
    for value in (*graph.input, *graph.output, *graph.value_info):
        types[value.name] = type_name(value.type.tensor_type.elem_type)
    types |= {tensor.name: type_name(tensor.data_type) for tensor in graph.initializer}
    for node in graph.node:
        yield Node(node.op_type, *(tuple(types[name] for name in names) for names in (node.input, node.output)))
        for body in bodies(node):
            yield from walk(body, types)


def bodies(node: NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g


def type_name(number: int) -> str:
    return TensorProto.DataType.Name(number).lower()


def on_the_cpu(found: list[Node], kernels: Mapping[str, dict]) -> set[Node]:
    return {node for node in found if node.operator not in FOLDED and not has_kernel(node, kernels)}


def has_kernel(node: Node, kernels: Mapping[str, dict]) -> bool:
    schema, kernel = defs.get_schema(node.operator, OPSET), kernels.get(node.operator)
    if kernel is None or not kernel["since"] <= schema.since_version <= (kernel["until"] or OPSET):
        return False
    typed = [*formals(schema.inputs, node.inputs), *formals(schema.outputs, node.outputs)]
    return all(actual in kernel["types"].get(variable, actual).split() for variable, actual in typed if actual)


def formals(parameters: list, actual: tuple[str, ...]) -> list[tuple[str, str]]:
    """The type variable of each input or output; the last one may be repeated."""
    return [(parameters[min(place, len(parameters) - 1)].type_str, name) for place, name in enumerate(actual)]


def with_every_option() -> dict[str, bytes]:
    """Graphs of a model whose every option differs from the trained bundle's, and the decoder in half precision."""
    return graph_files(trained("log", "point"), MARKETS, DELTAS, READING, half=True)


def sampler_of_a_flow() -> bytes:
    """The sampler of a model of vectors whose prior is a flow."""
    model = Vae.from_components(Architecture(8, 8, 2, 8, 1), principal_components(torch.rand(300, 8).double()))
    return sampler_graph(model.float(), Flow(FlowShape(2, 2)), 0, Layout.of_vectors(8), {"volvae_version": "1"})


def empty_reductions(graph: onnx.GraphProto, outer: Mapping[str, bool]) -> Iterator[str]:
    """Names of the nodes of a graph and its bodies that reduce an array of no numbers: CUDA's kernels refuse that."""
    empty = outer | {value.name: any(size.HasField("dim_value") and not size.dim_value for size in shape_of(value))
                     for value in (*graph.input, *graph.value_info)}  # fmt: skip
    empty |= {tensor.name: 0 in tensor.dims for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type.startswith("Reduce") and empty.get(node.input[0], False):
            yield node.name
        for body in bodies(node):
            yield from empty_reductions(body, empty)


def shape_of(value: onnx.ValueInfoProto) -> Iterable[onnx.TensorShapeProto.Dimension]:
    return value.type.tensor_type.shape.dim


def documented(root: Path, *more: str) -> dict[str, str]:
    """Nodes on the CPU by graph, as docs/bundle.md says: of the graphs that every bundle has, and of ``more``."""
    section = (root / "docs/bundle.md").read_text("utf-8").partition("## On CUDA")[2].partition("\n## ")[0]
    found = dict(re.findall(r"^\| `(\w+\.onnx)` \| (.+) \|$", section, re.MULTILINE))
    return {name: text for name, text in found.items() if name != SCENARIOS or name in more}


def named(found: set[Node]) -> str:
    return ", ".join(sorted({node.operator for node in found})) or "none"


@pytest.mark.slow
def test_nodes_on_the_cpu_are_those_that_the_page_names(kernels: dict, root: Path) -> None:
    found = {name: nodes(content) for name, content in with_every_option().items()}
    assert {node.operator for node in found["completer.onnx"]} >= {"Loop", "EyeLike"}  # the loop and its body
    assert {name: named(on_the_cpu(own, kernels)) for name, own in found.items()} == documented(root)


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_nodes_on_the_cpu_of_vectors_are_those_that_the_page_names(
    kernels: dict, root: Path, tmp_path_factory: pytest.TempPathFactory, likelihood: str
) -> None:
    """They are scored and completed in double precision."""
    bundle = trained_on_vectors(root, tmp_path_factory, likelihood).folder / "artifacts/bundle"
    found = {path.name: nodes(path.read_bytes()) for path in bundle.glob("*.onnx")}
    assert {name: named(on_the_cpu(own, kernels)) for name, own in found.items()} == documented(root)


@pytest.mark.slow
def test_nodes_on_the_cpu_of_the_sampler_of_a_flow_are_those_that_the_page_names(kernels: dict, root: Path) -> None:
    assert named(on_the_cpu(nodes(sampler_of_a_flow()), kernels)) == documented(root)[SAMPLER]


@pytest.mark.slow
def test_nodes_on_the_cpu_of_a_trained_bundle_are_those_that_the_page_names(
    kernels: dict, root: Path, finished: Workspace
) -> None:
    for name in GRAPHS:
        found = nodes((finished.folder / "artifacts/bundle" / name).read_bytes())
        assert named(on_the_cpu(found, kernels)) == documented(root)[name], name


@pytest.mark.slow
def test_nodes_on_the_cpu_of_scenarios_are_those_that_the_page_names(kernels: dict, root: Path) -> None:
    content = case("reverting", with_price=True).content
    assert named(on_the_cpu(nodes(content), kernels)) == documented(root, SCENARIOS)[SCENARIOS]


def test_no_graph_reduces_an_empty_array(linear_bundle: Path) -> None:
    """One component has no border to another, two tenors have none between them, and no residual factor is there."""
    for path in linear_bundle.glob("*.onnx"):
        model = shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
        assert list(empty_reductions(model.graph, {})) == [], path.name


def test_empty_reductions_are_found() -> None:
    graph = parser.parse_model("""
    <ir_version: 9, opset_import: ["": 18]>
    whole (float[n, 0] x, float[n, 1] y) => (float[n] sum, float[n] other)
      <int64[1] axis = {1}> {
      sum = ReduceSum <keepdims = 0> (x, axis)
      other = ReduceSum <keepdims = 0> (y, axis)
    }
    """)
    graph.graph.node[0].name = "empty"
    assert list(empty_reductions(graph.graph, {})) == ["empty"]


def test_operators_and_types_without_a_cuda_kernel_are_found(kernels: dict) -> None:
    """Also in the body of a loop: Det is in no table of CUDA, Where has no kernel for booleans."""
    graph = parser.parse_model("""
    <ir_version: 9, opset_import: ["": 18]>
    whole (int64 count, bool going, float[2, 2] x) => (float[2, 2] last) {
      sum = Add (x, x)
      last = Loop (count, going, sum) <body = step (int64 i, bool now, float[2, 2] y) => (bool next, float[2, 2] z) {
        det = Det (y)
        z = Add (y, det)
        next = Where (now, now, going)
      }>
    }
    """)
    found = on_the_cpu(nodes(graph.SerializeToString()), kernels)
    assert found == {Node("Det", ("float",), ("float",)), Node("Where", ("bool",) * 3, ("bool",))}
