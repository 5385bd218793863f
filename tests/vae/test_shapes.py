"""Shapes of public functions, as jaxtyping states them, over random grids and batches.

A name stands for one size within a call: where it comes twice, both sizes must be the same.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool, Float32, Float64, TypeCheckError, jaxtyped
from torch import Tensor

from vae.pricing import black, quoted_surface
from vae.surface import arbitrage, interpolation, smile_features
from vae.surface.grid import Grid, log_moneyness_of_delta
from vae.surface.spline import Spline, interpolation_matrices, refined
from vae.surface.surfaces import Surfaces


def shaped(function: Callable[..., Any]) -> Callable[..., Any]:
    return jaxtyped(typechecker=beartype)(function)


Array = np.ndarray
Surface = Float32[Array, "surface tenor node"]


@shaped
def log_moneyness(iv: Surface, grid: Grid) -> Float64[Array, "surface tenor node"]:
    return np.broadcast_to(grid.log_moneyness_of(iv), iv.shape)


@shaped
def violations(
    iv: Surface, grid: Grid
) -> tuple[Float64[Array, "kind surface tenor"], Float64[Array, "kind surface tenor"], Bool[Array, " surface"]]:
    return tuple(arbitrage.violations(iv, grid))


@shaped
def smile(iv: Surface, grid: Grid) -> tuple[Float64[Array, "#surface node"], Float64[Array, "surface node"]]:
    k, variance = interpolation.smile(iv, grid, float(grid.tenors.mean()))
    return k[None] if k.ndim == 1 else k, variance


@shaped
def vols_at(
    iv: Surface, grid: Grid, k: Float64[Array, " point"], tenor: Float64[Array, " point"]
) -> Float64[Array, "surface point"]:
    return Surfaces(iv, grid).at(k, tenor)


@shaped
def features(iv: Surface, grid: Grid) -> Float64[Array, "3 tenor node"]:
    return smile_features.functionals(smile_features.FEATURES, grid)


@shaped
def spline_at(
    x: Float64[Array, "*batch knot"], y: Float64[Array, "*batch knot"], points: Float64[Array, "*batch point"]
) -> tuple[Float64[Array, "*batch point"], Float64[Array, "*batch point"], Float64[Array, "*batch point"]]:
    return tuple(Spline.through(x, y).at(points))


@shaped
def matrices(
    knots: Float64[Array, " knot"], points: Float64[Array, " point"]
) -> tuple[Float64[Array, "point knot"], Float64[Array, "point knot"], Float64[Array, "point knot"]]:
    return tuple(interpolation_matrices(knots, points))


@shaped
def k_of_delta(
    delta: Float64[Array, " node"], total_vol: Float64[Array, "*batch node"]
) -> Float64[Array, "*batch node"]:
    return log_moneyness_of_delta(delta, total_vol)


@shaped
def price_and_vol(
    k: Float64[Tensor, "*batch"], total_vol: Float64[Tensor, "*batch"]
) -> tuple[Float64[Tensor, "*batch"], Float64[Tensor, "*batch"]]:
    price = black.otm_price(k, total_vol)
    return price, black.implied_total_vol(k, price)


@shaped
def implied_vols(
    k: Float64[Array, " quote"],
    price: Float64[Array, " quote"],
    tenor: Float64[Array, " quote"],
    call: Bool[Array, " quote"],
) -> Float64[Array, " quote"]:
    return quoted_surface.implied_vols(k, price, tenor, call=call)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    convention = draw(st.sampled_from(["log_moneyness", "sqrt_time", "delta"]))
    tenors, nodes = draw(st.integers(2, 4)), draw(st.integers(2, 7))
    ends = (0.05, 0.95) if convention == "delta" else (-0.3, 0.3)
    return Grid(np.linspace(0.1, 1.0, tenors), np.linspace(*ends, nodes), convention)


@settings(max_examples=20, deadline=None)
@given(grids(), st.integers(1, 3), st.integers(1, 5))
def test_functions_of_surfaces_keep_their_axes(grid: Grid, surfaces: int, points: int) -> None:
    iv = np.full((surfaces, *grid.shape), 0.2, np.float32)
    for function in (log_moneyness, violations, smile, features):
        function(iv, grid)
    vols_at(iv, grid, np.zeros(points), np.linspace(0.1, 1.0, points))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 3), max_size=2), st.integers(2, 6), st.integers(1, 5))
def test_functions_of_batches_keep_their_axes(batch: list[int], knots: int, points: int) -> None:
    x = np.broadcast_to(np.linspace(0.0, 1.0, knots), (*batch, knots))
    at = np.broadcast_to(np.linspace(0.1, 0.9, points), (*batch, points))
    spline_at(x, x**2, at)
    matrices(np.linspace(0.0, 1.0, knots), np.linspace(0.1, 0.9, points))
    k_of_delta(np.linspace(0.1, 0.9, knots), 0.1 + x)
    assert refined(x).shape == (*batch, 5 * (knots - 1) + 1)
    price_and_vol(torch.from_numpy(x.copy()), torch.from_numpy(0.2 + x))
    k = np.linspace(0.0, 0.2, points)
    implied_vols(k, np.full(points, 0.01), np.full(points, 0.5), np.ones(points, bool))


def test_another_shape_is_refused() -> None:
    """The checks of this file can fail."""
    with pytest.raises(TypeCheckError):
        matrices(np.zeros((2, 2)), np.zeros(1))
    with pytest.raises(TypeCheckError):
        k_of_delta(np.array([0.1, 0.9]), np.full((3, 3), 0.1))
