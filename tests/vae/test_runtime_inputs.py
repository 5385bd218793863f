import numpy as np
import pytest

from vae.runtime_inputs import (
    allowed_points,
    check_weights,
    data_feeds,
    latents_batch,
    quote_feeds,
    sample_request,
    vector_batch,
)
from vae.surface.grid import Grid
from vae.surface.plausible import Interval

RANGES = {"level": (0.05, 0.6), "skew": (-2.0, 1.0)}


def request(
    n: int = 10,
    seed: int = 7,
    offset: int = 0,
    temperature: float = 1.0,
    prior="fitted",
    *,
    noise: bool = False,
    **conditions: float,
):
    return sample_request(n, seed, conditions, temperature, offset, prior, noise=noise, ranges=RANGES)


@pytest.mark.parametrize("size", [1, 3, 10, 100])
def test_parts_of_a_request_are_its_rows_in_order(size: int) -> None:
    parts = list(request(n=10, offset=5).parts(size))
    rows = [row for _, part in parts for row in range(part.offset, part.offset + part.count)]
    assert rows == list(range(5, 15))
    assert [row for places, _ in parts for row in range(10)[places]] == list(range(10))
    assert max(part.count for _, part in parts) <= size


def test_a_request_is_what_the_sampler_reads() -> None:
    feeds = request(seed=2**64 - 1, offset=3, skew=-0.5).feeds
    assert {name: (values.dtype.name, values.shape) for name, values in feeds.items()} == {
        "key": ("uint64", (1,)),
        "temperature": ("float32", (1,)),
        "standard_normal": ("bool", (1,)),
        "conditions": ("float32", (2,)),
        "offset": ("int64", (1,)),
        "count": ("int64", (1,)),
    }
    assert int(feeds["key"][0]) == 2**64 - 1
    np.testing.assert_array_equal(feeds["conditions"], np.array([np.nan, -0.5], np.float32))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n is 0; the number of surfaces must be between 1 and"),
        ({"n": 4097, "offset": 2**50 - 4096}, "offset is 1125899906838528; allowed: 0 to"),
        ({"seed": 2**64}, "seed is 18446744073709551616; allowed: 0 to"),
        ({"seed": 1.5}, "seed is 1.5; allowed: a whole number"),
        ({"seed": "7"}, "seed is '7'; allowed: a whole number"),
        ({"n": 2.0}, "n is 2.0; allowed: a whole number"),
        ({"temperature": np.nan}, "temperature is nan; allowed: 0 to 100"),
        ({"prior": "normal"}, "prior is 'normal'; allowed: fitted, standard_normal"),
        (
            {"prior": "standard_normal", "skew": 0.1},
            "the prior standard_normal has no conditions, so it cannot be asked",
        ),
        ({"vix": 0.2}, "'vix' is not a condition; allowed: level, skew"),
        (
            {"level": 25.0},
            "the condition level is 25; the model knows 0.05 to 0.6; it looks like a percentage: divide by 100$",
        ),
        ({"level": 2.5}, "the condition level is 2.5; the model knows 0.05 to 0.6$"),
        ({"skew": 1e30}, r"the condition skew is 1e\+30; the model knows -2 to 1$"),
        ({"skew": np.nan}, "the condition skew is nan; it must be finite"),
    ],
)
def test_a_number_out_of_range_is_refused(wrong: dict, message: str) -> None:
    """The offset also where only a later block of a stream would exceed the last row."""
    with pytest.raises(ValueError, match=message):
        request(**wrong)


def test_missing_points_are_masked() -> None:
    surfaces = np.array([[[0.3, np.nan]]], np.float32)
    feeds = data_feeds("iv", surfaces, reads_missing=True)
    np.testing.assert_array_equal(feeds["mask"], [[[1.0, 0.0]]])
    assert np.isfinite(feeds["iv"]).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_what_is_masked_is_missing(kind: type) -> None:
    """The number below a mask is no number of the array: a surface lacks the point, and a quote is refused."""
    vectors = np.ma.masked_array(np.array([[3, 9]], kind), [[False, True]])
    found = vector_batch(vectors, 2, allowed=allowed_points("gaussian", "none"), reads_missing=True)
    np.testing.assert_array_equal(found, [[3.0, np.nan]])
    iv, grid = np.ma.masked_array([0.2, 9.0], [False, True]), Grid([0.25, 1.0], [0.0, 0.1])
    with pytest.raises(ValueError, match="iv of quote 1 is nan"):
        quote_feeds(grid, iv, 0.5, 0.0, None, 1.0, Interval(0.01, 2.0))
    with pytest.raises(ValueError, match="weight of quote 1 is nan"):
        quote_feeds(grid, 0.2, 0.5, 0.0, None, np.ma.masked_array([1.0, 9.0], [False, True]), Interval(0.01, 2.0))
    with pytest.raises(ValueError, match="z must be finite, but row 0 is not"):
        latents_batch(vectors, 2)


def test_weights_of_another_scale_are_refused() -> None:
    """Quotes whose stated error is larger than they are say nothing, and the surface would be the usual one."""
    feeds = {"iv": np.array([0.2, 0.25, 0.3], np.float32)}
    for right in (1.0, 1e-6, 1e6):
        check_weights(feeds | {"weight": np.full(3, right, np.float32)}, 1e-4)
    for wrong in (1e-8, 1e-30, 0.0):
        with pytest.raises(
            ValueError, match="says that quotes of 25 % are off by more than that; the weight of a quote"
        ):
            check_weights(feeds | {"weight": np.full(3, wrong, np.float32)}, 1e-4)


def test_missing_points_are_refused_where_the_model_was_not_trained_to_read_them() -> None:
    with pytest.raises(ValueError, match="row 1 of x has missing points, which this model was not trained to read"):
        vector_batch([[0.3, 0.2], [0.3, np.nan]], 2, allowed=allowed_points("gaussian", "none"), reads_missing=False)
