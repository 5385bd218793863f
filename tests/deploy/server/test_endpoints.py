"""The endpoints of a model whose market is a condition."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deploy.server.endpoints import make_endpoints, run
from deploy.server.errors import RefusedError
from vae.bundle import Layout
from vae.runtime import Completion, Draws
from vae.surface.grid import Grid

COLUMN = np.full(1, 0.2, np.float32)


class Model(SimpleNamespace):
    """Answers each call, and keeps the market that it was asked for."""

    def __init__(self) -> None:
        super().__init__(
            grid=Grid([0.1, 0.5], [-0.1, 0.1], "log_moneyness"), latents=1, conditions=(), block=8, asked=[],
            layout=Layout.of_surfaces((2, 2)), markets=("AUDUSD", "EURUSD"), market_is_condition=True,
            manifest={"reads_missing": False},
        )  # fmt: skip

    def draw(self, count: int, **asked: Any) -> Draws:
        self.asked.append(asked["market"])
        return Draws(np.zeros((count, 2, 2), np.float32), np.zeros((count, 1), np.float32))

    def complete(self, _iv: np.ndarray, **asked: Any) -> Completion:
        self.asked.append(asked["market"])
        column, no = np.zeros(1, np.float32), np.zeros(1, np.bool_)
        return Completion(column, column, column, column, column, 0.0, 1.0, ~no, noise=1e-4, wild=no)


def test_a_market_is_named_by_its_place() -> None:
    model = Model()
    endpoints = make_endpoints(model)  # type: ignore[arg-type]
    quotes = dict.fromkeys(("log_moneyness", "tenor", "iv"), COLUMN)
    requests = {"sampler": {"key": np.array([7], np.uint64), "count": np.array([1])}, "completer": quotes}
    for name, tensors in requests.items():
        assert {tensor.name: tensor.optional for tensor in endpoints[name].inputs}["market"]
        for place in ({}, {"market": np.array([-1])}, {"market": np.array([1])}):
            run(endpoints[name], {**tensors, **place}, deadline=np.inf)
        with pytest.raises(RefusedError, match="market is 2; allowed: -1 for none, 0 to 1"):
            run(endpoints[name], {**tensors, "market": np.array([2])}, deadline=np.inf)
    assert model.asked == [None, None, "EURUSD"] * 2
