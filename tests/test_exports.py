"""Graphs that are kept are found again, by another process too, and for no other module."""

import pytest
import torch

from tests.bundles import linear_model
from tests.exports import content, key
from vae.graphs.completer import quote_step
from vae.graphs.search import point_step


def test_equal_modules_have_one_key_and_others_another() -> None:
    """Also where the function of a step alone tells them apart, or a number of its model."""
    model, other = linear_model(), linear_model()
    with torch.no_grad():
        other.center[0] += 1e-9
    keys = [key(step(each), (), {}) for step in (quote_step, point_step) for each in (model, linear_model(), other)]
    assert [keys.index(each) for each in keys] == [0, 0, 2, 3, 3, 5]


def test_what_another_process_would_call_otherwise_is_no_key() -> None:
    with pytest.raises(AssertionError, match="another process would not find a graph by <object"):
        content(object())
