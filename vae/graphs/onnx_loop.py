"""Join three ONNX graphs, those before, in and after a loop, into one graph with a ``Loop`` node.

Reference: https://onnx.ai/onnx/operators/onnx__Loop.html
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper


def loop_graph(
    start: ModelProto, step: ModelProto, end: ModelProto, *, state: Sequence[str], condition: str | None, most: int
) -> ModelProto:
    """``start``, then ``step`` while its output ``condition`` is true, then ``end``.

    Inputs and outputs are joined by name. For each part of the state, such as z, ``start`` outputs first_z, ``step``
    turns now_z into next_z, and ``end`` reads last_z. All other inputs of ``step`` and ``end`` are inputs or outputs of
    ``start``. Outputs of ``start`` that nobody reads become outputs of the joined graph, after those of ``end``.

    Args:
        start: the graph before the loop.
        step: the body of the loop.
        end: the graph after the loop.
        state: names of the parts of the state.
        condition: the output of ``step`` that says whether another step follows; None: all steps are taken.
        most: the largest number of steps.
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
    going = helper.make_tensor_value_info("body.going", TensorProto.BOOL, [])
    follows = helper.make_tensor_value_info("body.follows", TensorProto.BOOL, [])
    body = helper.make_graph(
        [*step.graph.node, *([] if condition else [helper.make_node("Identity", [going.name], [follows.name])])],
        "step",
        [
            helper.make_tensor_value_info("body.iteration", TensorProto.INT64, []),
            going,
            *_named(step.graph.input, [f"now_{part}" for part in state]),
        ],
        [
            *(_named(step.graph.output, [condition]) if condition else [follows]),
            *_named(step.graph.output, [f"next_{part}" for part in state]),
        ],
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
    """The values with these names, in the order of the names."""
    known = {value.name: value for value in values}
    return [known[name] for name in names]


def _prefix(graph: GraphProto, prefix: str) -> None:
    """Prefix all names except those of inputs and outputs, so that no two graphs share a name by chance."""
    kept = {"", *(value.name for value in (*graph.input, *graph.output))}
    _rename(graph, lambda name: name if name in kept else prefix + name)


def _rename(graph: GraphProto, new: Callable[[str], str]) -> None:
    """Rename all that a graph and the bodies of its loops name."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new(value.name)
    for node in graph.node:
        node.name = new(node.name)
        for names in (node.input, node.output):
            names[:] = [new(name) for name in names]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, new)


def _merged(weights: Sequence[TensorProto], nodes: Sequence[NodeProto]) -> list[TensorProto]:
    """Weights without duplicates; nodes that read a duplicate read the weight that stays."""
    found: dict[bytes, TensorProto] = {}
    names = {}
    for tensor in weights:
        nameless = TensorProto()
        nameless.CopyFrom(tensor)
        nameless.ClearField("name")
        names[tensor.name] = found.setdefault(nameless.SerializeToString(deterministic=True), tensor).name
    for node in _with_bodies(nodes):
        node.input[:] = [names.get(name, name) for name in node.input]
    return list(found.values())


def _with_bodies(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes and those in the bodies of their loops."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _with_bodies(attribute.g.node)
