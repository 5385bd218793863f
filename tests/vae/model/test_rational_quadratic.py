import torch
from hypothesis import given
from hypothesis import strategies as st

from vae.model.rational_quadratic import evaluate, invert, parameters, splines

BOUND = 3.0
raw = st.lists(st.floats(-4.0, 4.0), min_size=parameters(5), max_size=parameters(5)).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)
inside = torch.linspace(-BOUND, BOUND, 301, dtype=torch.float64)


def test_without_parameters_a_spline_is_the_identity() -> None:
    x = torch.linspace(-9.0, 9.0, 50, dtype=torch.float64)
    y, log_slope = evaluate(splines(torch.zeros(parameters(4), dtype=torch.float64), BOUND), x)
    torch.testing.assert_close(y, x, atol=1e-12, rtol=0.0)
    torch.testing.assert_close(log_slope, torch.zeros(50, dtype=torch.float64), atol=1e-9, rtol=0.0)


@given(raw)
def test_a_spline_rises_through_its_knots_and_comes_back(values: torch.Tensor) -> None:
    spline = splines(values, BOUND)
    y, log_slope = evaluate(spline, inside)
    assert (y.diff() > 0.0).all()
    assert y.min() >= -BOUND - 1e-12
    assert y.max() <= BOUND + 1e-12
    torch.testing.assert_close(invert(spline, y), inside, atol=1e-8, rtol=0.0)
    at_knots, slopes = evaluate(spline, spline.x)
    torch.testing.assert_close(at_knots, spline.y, atol=1e-12, rtol=0.0)
    torch.testing.assert_close(slopes.exp(), spline.slope, atol=1e-9, rtol=1e-9)
    x = inside.clone().requires_grad_()
    (slope,) = torch.autograd.grad(evaluate(spline, x)[0].sum(), x)
    torch.testing.assert_close(log_slope.exp()[1:-1], slope[1:-1], atol=1e-9, rtol=1e-6)


@given(raw)
def test_beyond_its_knots_a_spline_is_straight(values: torch.Tensor) -> None:
    spline = splines(values, BOUND)
    x = torch.tensor([-BOUND - 2.0, BOUND + 0.5], dtype=torch.float64)
    y, log_slope = evaluate(spline, x)
    ends = spline.slope[[0, -1]].clamp_min(1.0)  # its inverse stretches nothing
    torch.testing.assert_close(y, torch.tensor([-BOUND, BOUND]) + torch.tensor([-2.0, 0.5]) * ends)
    torch.testing.assert_close(log_slope, ends.log())
    torch.testing.assert_close(invert(spline, y), x)
    far = torch.tensor([-BOUND - 2.0, BOUND + 0.5], dtype=torch.float64)
    assert (invert(spline, far).abs() <= far.abs() + 1e-9).all(), "rare draws are thrown far"


def test_each_number_of_a_batch_has_its_own_spline() -> None:
    torch.manual_seed(0)
    values, x = torch.randn(7, 2, parameters(5), dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)
    y, log_slope = evaluate(splines(values, BOUND), x)
    alone = [
        evaluate(splines(own, BOUND), number) for own, number in zip(values.flatten(0, 1), x.flatten(), strict=True)
    ]
    torch.testing.assert_close(y.flatten(), torch.stack([value for value, _ in alone]))
    torch.testing.assert_close(log_slope.flatten(), torch.stack([slope for _, slope in alone]))
