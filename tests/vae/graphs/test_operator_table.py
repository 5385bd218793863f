"""The exporter's table of operators is made once, and torch is left as it was."""

import sys

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry

from vae.graphs.export import OPSET
from vae.graphs.operator_table import one_table


def test_exports_share_one_table() -> None:
    own = vars(ONNXRegistry)["from_torchlib"]
    with one_table():
        table = ONNXRegistry().from_torchlib(opset_version=OPSET)
    with one_table():
        assert ONNXRegistry().from_torchlib(opset_version=OPSET) is table
    assert vars(ONNXRegistry)["from_torchlib"] is own
    assert "aten::addmm" in table.functions


def test_where_torch_has_no_such_table_exports_make_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, ONNXRegistry.__module__, None)
    own = vars(ONNXRegistry)["from_torchlib"]
    with one_table():
        assert vars(ONNXRegistry)["from_torchlib"] is own
