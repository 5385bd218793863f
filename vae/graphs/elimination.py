"""Gauss and Jordan's elimination as an ONNX ``Loop``.

A trace has one node for each elimination of ``vae.model.linear_systems``. It would hold some ten nodes for each row if
the loop were traced, and the exporter takes its time for each of them.
"""

from onnx import ModelProto, helper, inliner, parser

from vae.model.linear_systems import ELIMINATE

_DOMAIN, _, _NAME = ELIMINATE.partition("::")
_FUNCTION = f"""
<domain: "{_DOMAIN}", opset_import: ["": %d]>
{_NAME} (matrix, right) => (solution, pivots) {{
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    first = Constant <value_ints = [0]> ()
    last = Constant <value_ints = [-1]> ()
    end = Constant <value_ints = [{2**63 - 1}]> ()
    going = Constant <value = bool {{1}}> ()
    sizes = Shape <start = -1> (matrix)
    size = Squeeze (sizes)
    number = Range (zero, size, one)
    rows = Concat <axis = -1> (matrix, right)
    unknown = ReduceSum <keepdims = 0> (matrix, last)
    eliminated, pivots = Loop <body = step (int64 i, bool on, now, found) => (bool still, next, more) {{
        still = Identity (on)
        at = Unsqueeze (i, first)
        row = Gather <axis = -2> (now, at)
        column = Gather <axis = -1> (now, at)
        pivot = Gather <axis = -1> (row, at)
        scaled = Div (row, pivot)
        product = Mul (column, scaled)
        rest = Sub (now, product)
        here = Equal (number, i)
        in_row = Unsqueeze (here, last)
        next = Where (in_row, scaled, rest)
        flat = Squeeze (pivot, last)
        more = Where (here, flat, found)
    }}> (size, going, rows, unknown)
    solution = Slice (eliminated, sizes, end, last)
}}
"""


def with_eliminations(proto: ModelProto, opset: int) -> ModelProto:
    """The graph with a loop in place of each node of an elimination."""
    if not any(node.domain == _DOMAIN for node in proto.graph.node):
        return proto
    proto.functions.append(parser.parse_function(_FUNCTION % opset))
    if all(known.domain != _DOMAIN for known in proto.opset_import):
        proto.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    found: ModelProto = inliner.inline_local_functions(proto)
    return found
