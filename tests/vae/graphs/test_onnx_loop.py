"""Three graphs as one, on the square root by Newton's iteration, whose steps are known."""

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, parser

from vae.graphs.onnx_loop import loop_graph

HEADER = '<ir_version: 9, opset_import: ["": 18]>'


def graph(text: str) -> ModelProto:
    return parser.parse_model(HEADER + text)


def square_root(most: int) -> onnxruntime.InferenceSession:
    """x -> the root, a copy of x, and how often the step ran; start, step and end hold the number 0.5 each."""
    start = graph("""start (float[n] x) => (float[n] half, float first_root, float first_count, float[n] copy)
        <float h = {0.5}, float first_root = {1.0}, float first_count = {0.0}> {
        half = Mul(x, h)
        copy = Identity(x)
    }""")
    step = graph("""step (float[n] x, float[n] half, float now_root, float now_count)
        => (bool going, float next_root, float next_count)
        <float h = {0.5}, float one = {1.0}, float small = {1e-6}> {
        share = Div(half, now_root)
        sums = ReduceMax <keepdims = 0> (share)
        mine = Mul(now_root, h)
        next_root = Add(mine, sums)
        next_count = Add(now_count, one)
        change = Sub(next_root, now_root)
        size = Abs(change)
        going = Greater(size, small)
    }""")
    end = graph("""end (float last_root, float last_count) => (float root, float count)
        <float h = {0.5}> {
        twice = Add(last_root, last_root)
        root = Mul(twice, h)
        count = Identity(last_count)
    }""")
    whole = loop_graph(start, step, end, state=["root", "count"], condition="going", most=most)
    onnx.checker.check_model(whole, full_check=True)
    assert [value.name for value in whole.graph.output] == ["root", "count", "copy"]
    halves = [tensor for tensor in whole.graph.initializer if onnx.numpy_helper.to_array(tensor) == 0.5]
    assert len(halves) == 1  # the three numbers are kept once
    return onnxruntime.InferenceSession(whole.SerializeToString())


@pytest.mark.parametrize(("x", "steps"), [(1.0, 1), (2.0, 5), (100.0, 8)])
def test_a_loop_ends_where_nothing_changes(x: float, steps: int) -> None:
    root, count, copy = square_root(most=20).run(None, {"x": np.array([x], np.float32)})
    assert root == pytest.approx(math.sqrt(x), rel=1e-6)
    assert count == steps
    np.testing.assert_array_equal(copy, np.array([x], np.float32))


def test_a_loop_ends_after_the_most_steps() -> None:
    root, count, _ = square_root(most=2).run(None, {"x": np.array([2.0], np.float32)})
    assert (root, count) == (pytest.approx(17.0 / 12.0), 2)


def test_without_a_condition_all_steps_are_taken_and_loops_may_hold_loops() -> None:
    """Each of four steps doubles three times in a loop of its own, by a number that start, step and end share."""
    start = graph("start (float x) => (float first_y) <float two = {2.0}> { first_y = Div(x, two) }")
    step = graph("""step (float now_y) => (float next_y)
        <float two = {2.0}, int64 three = {3}, bool on = {1}> {
        next_y = Loop <body = inner (int64 i, bool go, float y) => (bool still, float twice) {
            still = Identity(go)
            twice = Mul(y, two)
        }> (three, on, now_y)
    }""")
    end = graph("end (float last_y) => (float whole) <float two = {2.0}> { whole = Mul(last_y, two) }")
    joined = loop_graph(start, step, end, state=["y"], condition=None, most=4)
    onnx.checker.check_model(joined, full_check=True)
    (found,) = onnxruntime.InferenceSession(joined.SerializeToString()).run(None, {"x": np.array(1.5, np.float32)})
    assert found == 1.5 * 2.0**12
