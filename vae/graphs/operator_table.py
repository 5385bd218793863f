"""The exporter's table of operators, made once in a process.

torch makes it anew for each graph, from the source of some 500 functions: a quarter of the time of a bundle.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import cache


@contextlib.contextmanager
def one_table() -> Iterator[None]:
    """Let all exports inside share their table. Do not register operators there, as later exports would see them."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry  # noqa: PLC0415  takes seconds
    except ImportError:  # another version of torch has it elsewhere: exports are as right, and slower
        yield
        return
    own = vars(ONNXRegistry)["from_torchlib"]
    ONNXRegistry.from_torchlib = staticmethod(_kept(ONNXRegistry.from_torchlib))  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ONNXRegistry.from_torchlib = own  # type: ignore[method-assign]


@cache
def _kept(make: Callable[..., object]) -> Callable[..., object]:
    """The constructor of the table, which keeps what it has made for each version of the operators."""
    return cache(make)
