"""Gauss and Jordan's elimination as ONNX nodes.

A trace has one node for each elimination of ``vae.model.linear_systems``. Its nodes are written here, as the exporter
would take its time for each of them. They are not the body of a loop: onnxruntime takes longer to start an iteration
than to compute it.
"""

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from vae.model.linear_systems import ELIMINATE

_DOMAIN, _, _NAME = ELIMINATE.partition("::")


class _Constants(dict[str, np.ndarray]):
    """The constants that the nodes read, by name."""

    def named(self, name: str, values: object) -> str:
        """The name under which the values are kept."""
        name = f"eliminate.{name}"
        self[name] = np.array(values)
        return name


def with_eliminations(proto: ModelProto) -> ModelProto:
    """The graph with the nodes of an elimination in place of each node that stands for one."""
    constants = _Constants()
    read = {value.name for value in proto.graph.output}.union(*(node.input for node in proto.graph.node))
    nodes = [part for node in proto.graph.node for part in _expanded(node, read, constants)]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return proto


def _expanded(node: NodeProto, read: set[str], constants: _Constants) -> Iterator[NodeProto]:
    """The nodes that a node stands for; pivots are left out where nobody reads them."""
    if node.domain != _DOMAIN:
        yield node
        return
    solution, pivots = node.output
    size, columns = (helper.get_node_attr_value(node, name) for name in ("size", "columns"))
    rows = [f"{solution}.rows_{i}" for i in range(size)] + [solution]
    yield helper.make_node("Concat", node.input, rows[:1], axis=-1)
    for i in range(size):
        yield from _step(i, rows[i], rows[i + 1], (size, size + columns - i), constants)
    if pivots in read:
        yield helper.make_node("Concat", [f"{name}.pivot" for name in rows[1:]], [f"{pivots}.column"], axis=-2)
        yield helper.make_node("Squeeze", [f"{pivots}.column", constants.named("last", [-1])], [pivots])


def _step(i: int, rows: str, after: str, shape: tuple[int, int], constants: _Constants) -> Iterator[NodeProto]:
    """The nodes that eliminate the first column of ``rows``, whose last two axes have this shape, by row i."""
    size, width = shape
    here = constants.named(f"row_{i}", [i])
    in_row = constants.named(f"in_row_{i}_of_{size}", np.arange(size)[:, None] == i)
    widths = constants.named(f"widths_{width}", [1, width - 1])
    column, rest, pivot, row, scaled, product, left = (
        f"{after}.{part}" for part in ("column", "rest", "pivot", "row", "scaled", "product", "left")
    )
    yield helper.make_node("Split", [rows, widths], [column, rest], axis=-1)
    yield helper.make_node("Gather", [column, here], [pivot], axis=-2)
    yield helper.make_node("Gather", [rest, here], [row], axis=-2)
    yield helper.make_node("Div", [row, pivot], [scaled])
    yield helper.make_node("Mul", [column, scaled], [product])
    yield helper.make_node("Sub", [rest, product], [left])
    yield helper.make_node("Where", [in_row, scaled, left], [after])
