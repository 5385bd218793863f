"""Three ONNX graphs as one: what comes before a loop, its body, and what comes after.

Reference: https://onnx.ai/onnx/operators/onnx__Loop.html
"""

from collections.abc import Sequence

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper


def looped(
    start: ModelProto, step: ModelProto, end: ModelProto, *, state: Sequence[str], condition: str, most: int
) -> ModelProto:
    """``start``, then ``step`` as long as its output ``condition`` holds, ``most`` times at most, then ``end``.

    Of each part of the ``state``, say z, ``start`` gives first_z, ``step`` makes next_z of now_z, and ``end`` takes
    last_z. Other inputs of ``step`` and ``end`` are inputs or outputs of ``start`` of the same name; other outputs of
    ``start`` that neither takes are outputs of the whole, after those of ``end``.
    """
    parts = (start.graph, step.graph, end.graph)
    for name, graph in zip(("start.", "step.", "end."), parts, strict=True):
        _prefix(graph, name)
    loop = helper.make_node(
        "Loop",
        ["loop.most", "loop.going", *(f"first_{part}" for part in state)],
        [f"last_{part}" for part in state],
        name="loop",
    )
    weights = _merged(
        [tensor for graph in parts for tensor in graph.initializer], [loop, *(n for graph in parts for n in graph.node)]
    )
    body = helper.make_graph(
        step.graph.node,
        "step",
        [
            helper.make_tensor_value_info("body.iteration", TensorProto.INT64, []),
            helper.make_tensor_value_info("body.going", TensorProto.BOOL, []),
            *_named(step.graph.input, [f"now_{part}" for part in state]),
        ],
        _named(step.graph.output, [condition, *(f"next_{part}" for part in state)]),
    )
    loop.attribute.append(helper.make_attribute("body", body))
    constants = [
        helper.make_tensor("loop.most", TensorProto.INT64, [], [most]),
        helper.make_tensor("loop.going", TensorProto.BOOL, [], [True]),
    ]
    taken = set(loop.input).union(*(node.input for graph in parts[1:] for node in graph.node))
    whole = helper.make_graph(
        [*start.graph.node, loop, *end.graph.node],
        start.graph.name,
        start.graph.input,
        [*end.graph.output, *(value for value in start.graph.output if value.name not in taken)],
        [*weights, *constants],
    )
    return helper.make_model(whole, ir_version=start.ir_version, opset_imports=start.opset_import)


def _named(values: Sequence[ValueInfoProto], names: Sequence[str]) -> list[ValueInfoProto]:
    """The values of these names, in this order."""
    known = {value.name: value for value in values}
    return [known[name] for name in names]


def _prefix(graph: GraphProto, prefix: str) -> None:
    """Name all but inputs and outputs anew, so that no two graphs share a name by chance."""
    kept = {"", *(value.name for value in (*graph.input, *graph.output))}
    for node in graph.node:
        node.name = node.name and prefix + node.name
        for names in (node.input, node.output):
            names[:] = [name if name in kept else prefix + name for name in names]
    for tensor in graph.initializer:
        tensor.name = tensor.name if tensor.name in kept else prefix + tensor.name


def _merged(weights: Sequence[TensorProto], nodes: Sequence[NodeProto]) -> list[TensorProto]:
    """Weights of equal content once: the nodes read that one."""
    found: dict[bytes, TensorProto] = {}
    names = {}
    for tensor in weights:
        nameless = TensorProto()
        nameless.CopyFrom(tensor)
        nameless.ClearField("name")
        names[tensor.name] = found.setdefault(nameless.SerializeToString(deterministic=True), tensor).name
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
    return list(found.values())
