"""Simplify a traced graph without changing what it computes.

torch's exporter by default applies rules of onnxscript that take a constant within 1e-8 of 0 for 0, and one within 1e-5
of 1 for 1. The variance of a noise of 1 bp would be left out. So the exporter is told not to, and passes that change no
value are applied here; onnxruntime has exact rules of its own.
"""

from collections.abc import Iterable

from onnx import ModelProto
from onnx_ir import from_proto, to_proto
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
