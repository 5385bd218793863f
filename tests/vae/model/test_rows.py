"""Rows that are read in blocks say the same as all of them together."""

import pytest
import torch

from vae.model import linear, rows

X = torch.arange(21, dtype=torch.float64).reshape(7, 3)


@pytest.fixture(autouse=True)
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two rows."""
    monkeypatch.setattr(rows, "ROWS", 2)
    monkeypatch.setattr(linear, "ROWS", 2)


def test_rows_are_asked_in_every_block() -> None:
    assert not rows.has_missing(X)
    assert rows.complete(X).tolist() == list(range(7))
    x = X.clone()
    x[6, 1] = x[3, 0] = torch.nan
    assert rows.has_missing(x)
    assert rows.has_missing(x[6:])
    assert rows.complete(x).tolist() == [0, 1, 2, 4, 5]
    assert rows.any_of(x, lambda block: block == 20.0)
    assert not rows.any_of(x, lambda block: block == 21.0)
    x[:, 2] = torch.nan
    assert rows.empty_columns(x).tolist() == [False, False, True]


@pytest.mark.parametrize("weighted", [False, True])
def test_components_of_parts_are_those_of_all_rows(*, weighted: bool) -> None:
    """The covariance is torch's own, of the transformed rows."""
    x = torch.rand(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = torch.arange(1, 8).double() if weighted else None
    found = linear.components_of_parts([x[:4], x[4:]], weights, torch.log)
    covariance = torch.cov(x.log().T, correction=0, aweights=weights)
    torch.testing.assert_close((found.vectors * found.variances) @ found.vectors.T, covariance, rtol=1e-12, atol=1e-14)
    known = linear.components_of_known([x[:4], x[4:]], 1, weights, torch.log)
    torch.testing.assert_close(tuple(known), tuple(found), rtol=0.0, atol=0.0)


def test_missing_points_of_all_parts_are_filled_together() -> None:
    x = torch.rand(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[5, 1] = torch.nan
    found = linear.components_of_known([x[:4], x[4:]], 1, inner=torch.log)
    expected = linear.principal_components(linear.filled(x.log(), 1))
    torch.testing.assert_close(tuple(found), tuple(expected), rtol=0.0, atol=0.0)
