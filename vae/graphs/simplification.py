"""Simplify a traced graph without changing what it computes.

torch's exporter by default applies rules of onnxscript that take a constant within 1e-8 of 0 for 0, and one within 1e-5
of 1 for 1. The variance of a noise of 1 bp would be left out. So the exporter is told not to, and passes that change no
value are applied here; onnxruntime has exact rules of its own.

It also writes the shape of a batch as a computation from the shape of an input. One unknown size needs none of that.
"""

from collections.abc import Iterable

import numpy as np
from onnx import ModelProto
from onnx_ir import Model, Node, Value, convenience, from_proto, node, tensor, to_proto
from onnx_ir.passes import common
from onnxscript import optimizer


def simplified(proto: ModelProto, inputs: Iterable[str], outputs: Iterable[str]) -> ModelProto:
    """The graph with functions inlined, constants folded and what is unused or twice there removed.

    Args:
        proto: with one name for an output that is an input too.
        inputs: names, in their order.
        outputs: names, in their order.
    """
    model = from_proto(proto)
    common.InlinePass()(model)
    optimizer.fold_constants(model, onnx_shape_inference=True)
    _write_unknown_sizes(model)
    for each in (
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.OutputFixPass(),
    ):
        each(model)
    for values, names in ((model.graph.inputs, inputs), (model.graph.outputs, outputs)):
        for value, name in zip(values, names, strict=True):
            value.name = name
    common.NameFixPass()(model)
    found: ModelProto = to_proto(model)
    return found


def _write_unknown_sizes(model: Model) -> None:
    """Give each ``Reshape`` whose shape is computed but for one size a constant shape with -1 in that place."""
    for each in model.graph.all_nodes():
        shape = each.inputs[1] if each.op_type == "Reshape" else None
        sizes = _sizes(shape.producer()) if shape is not None else []
        if sizes.count(-1) == 1 and 0 not in sizes:
            constant = node("Constant", [], {"value": tensor(np.array(sizes))})
            (each.graph or model.graph).insert_before(each, constant)
            each.replace_input_with(1, constant.outputs[0])


def _sizes(joined: Node | None) -> list[int]:
    """The sizes that a ``Concat`` joins, -1 for one that is not constant; none where it joins anything else."""
    if joined is None or joined.op_type != "Concat":
        return []
    found: list[int] = []
    for part in joined.inputs:
        known = convenience.get_const_tensor(part) if part is not None else None
        if known is not None:
            found += known.numpy().tolist()
        elif _has_one_number(part):
            found.append(-1)
        else:
            return []
    return found


def _has_one_number(value: Value | None) -> bool:
    return value is not None and value.shape is not None and list(value.shape) == [1]
