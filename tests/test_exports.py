"""Graphs that are kept are found again, by another process too, and for no other module."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

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


def twice(x: Tensor) -> Tensor:
    def inner() -> Tensor:
        return x * 2.0

    return inner()


def thrice(x: Tensor) -> Tensor:
    def inner() -> Tensor:
        return x * 3.0

    return inner()


def by_default(x: Tensor, factor: float = 2.0) -> Tensor:
    return x * factor


def by_other_default(x: Tensor, factor: float = 3.0) -> Tensor:
    return x * factor


def by_keyword(x: Tensor, *, factor: float = 2.0) -> Tensor:
    return x * factor


def by_other_keyword(x: Tensor, *, factor: float = 3.0) -> Tensor:
    return x * factor


class Scaled(nn.Module):
    """A module with a flag and a buffer that its state_dict leaves out."""

    def __init__(self, factor: float, *, flag: bool) -> None:
        super().__init__()
        self.flag = flag
        self.register_buffer("factor", torch.tensor(factor), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def within(module: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: 1.0 * module(x)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: x * 2.0, lambda x: x * 3.0),
        (twice, thrice),
        (by_default, by_other_default),
        (by_keyword, by_other_keyword),
        (within(Scaled(2.0, flag=True)), within(Scaled(3.0, flag=True))),
        (within(Scaled(2.0, flag=True)), within(Scaled(2.0, flag=False))),
        (within(nn.Tanh()), within(nn.ReLU())),
        ((1, 23), (12, 3)),
    ],
)
def test_contents_differ_where_the_graphs_would(one: object, other: object) -> None:
    assert content(one) != content(other)


def test_a_replaced_forward_that_differs_in_a_number_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for forward in (lambda _, x: x * 2.0, lambda _, x: x * 3.0):
        monkeypatch.setattr(Scaled, "forward", forward)
        keys.add(key(Scaled(1.0, flag=True), (), {}))
    assert len(keys) == 2


@pytest.mark.slow
def test_another_process_finds_a_graph() -> None:
    """Whatever order sets have there."""
    code = "from tests.test_exports import step_key; print(step_key())"
    other = [sys.executable, "-c", code]
    found = subprocess.run(other, env={**os.environ, "PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [step_key()]


def step_key() -> str:
    return key(quote_step(linear_model()), (), {})
