"""The arguments of ``vae.runtime``: checked, and turned into the tensors that the graphs of a bundle read."""

import datetime as dt
import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae.surface import plausible
from vae.surface.grid import Grid, log_moneyness_of_delta
from vae.surface.plausible import Interval

Array = NDArray[np.float32]
Feeds = dict[str, NDArray[Any]]

Ranges = Mapping[str, tuple[float, float]]  # least and largest value of each condition by name, in their order

PriorName = Literal["fitted", "standard_normal"]
PRIORS: tuple[PriorName, ...] = ("fitted", "standard_normal")
QUOTE_COLUMNS = ("log_moneyness", "tenor", "iv", "weight")

_MOST_QUOTES = 20_000
_LARGEST_ROW = 2**50
_LARGEST = float(np.finfo(np.float32).max)
_HOTTEST = 100.0  # far more than any use needs, far less than what makes vols infinite


@dataclass(frozen=True)
class SampleRequest:
    """Consecutive rows of the surfaces that belong to one seed.

    Attributes:
        common: what the sampler reads for every row: key, temperature and conditions.
        offset: number of the first row.
        count: number of rows.
        noise: whether rows are observations, with the noise of each point.
    """

    common: Feeds
    offset: int
    count: int
    noise: bool = False

    @property
    def seed(self) -> int:
        """The seed of the rows."""
        return int(self.common["key"][0])

    @property
    def feeds(self) -> Feeds:
        """All inputs of the sampler."""
        return {**self.common, "offset": np.array([self.offset]), "count": np.array([self.count])}

    def parts(self, size: int) -> Iterator[tuple[slice, "SampleRequest"]]:
        """The request in parts of at most ``size`` rows, each with its place in the whole."""
        for rows in slices(self.count, size):
            yield rows, replace(self, offset=self.offset + rows.start, count=rows.stop - rows.start)


def sample_request(
    n: int,
    seed: int,
    conditions: Mapping[str, float],
    temperature: float,
    offset: int,
    prior: PriorName,
    *,
    noise: bool,
    ranges: Ranges,
) -> SampleRequest:
    """The request for rows ``offset`` to ``offset + n``; ``ranges`` are those of the conditions that the model has.

    Raises:
        ValueError: a number is out of range or not whole, the model does not have a condition or a prior, or the prior
            has none.
    """
    n, offset, seed = whole("n", n), whole("offset", offset), whole("seed", seed)
    if not 1 <= n <= _LARGEST_ROW:
        raise ValueError(f"n is {n}; the number of surfaces must be between 1 and 2^50")
    if not 0 <= offset <= _LARGEST_ROW - n:
        raise ValueError(f"offset is {offset}; allowed: 0 to 2^50 less the number of surfaces")
    if not 0.0 <= temperature <= _HOTTEST:
        raise ValueError(f"temperature is {temperature}; allowed: 0 to {_HOTTEST:g}")
    values = _condition_values(conditions, ranges)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; allowed: 0 to 2^64 - 1")
    if prior not in PRIORS:
        raise ValueError(f"prior is {prior!r}; allowed: {', '.join(PRIORS)}")
    if prior == "standard_normal" and conditions:
        raise ValueError(
            f"the prior standard_normal has no conditions, so it cannot be asked for {', '.join(conditions)}"
        )
    common: Feeds = {
        "key": np.array([seed], np.uint64),
        "temperature": np.array([temperature], np.float32),
        "standard_normal": np.array([prior == "standard_normal"]),
    }
    return SampleRequest(common | ({"conditions": values} if ranges else {}), offset, n, noise)


def market_feed(market: str | None, markets: tuple[str, ...], *, is_condition: bool) -> Feeds:
    """The place of a market as the sampler and the completer read it, -1 for none; empty where it is no condition.

    Raises:
        ValueError: the model does not have the market.
    """
    if market is None:
        return {"market": np.array([-1])} if is_condition else {}
    if not is_condition:
        raise ValueError(f"this model has no condition market, so it cannot be asked for {market!r}")
    if market not in markets:
        raise ValueError(f"{market!r} is not a market of this model; allowed: {', '.join(markets)}; or name none")
    return {"market": np.array([markets.index(market)])}


def latents_batch(z: ArrayLike, latents: int) -> Array:
    """Latents as float32 [batch, latent].

    Raises:
        ValueError: another shape, or a value is not finite.
    """
    # A finite sum proves in one pass that all values are finite; otherwise each value is looked at.
    array = np.ascontiguousarray(unmasked(z), np.float32)
    if array.shape == (1, latents) and math.isfinite(sum(array.tolist()[0])):
        return array  # one row, of which the checks below would take longer than the decoder's products
    array = _batch("z", array, (latents,))
    if not math.isfinite(np.vdot(array, array)) and not np.isfinite(array).all():
        raise ValueError(f"z must be finite, but row {_first_row(~np.isfinite(array))} is not")
    return array


def surface_batch(iv: ArrayLike, shape: tuple[int, ...], allowed: Interval, *, reads_missing: bool) -> Array:
    """Surfaces as float32 [batch, tenor, node], NaN where a point is missing; their medians must be ``allowed``.

    Raises:
        ValueError: another shape, a vol that is not positive and finite, a surface without a known point, a median that
            is no decimal vol, or a missing point where the model was not trained to read them.
    """
    surfaces = _batch("iv", iv, shape)
    known = ~np.isnan(surfaces)
    wrong = known & ~((surfaces > 0.0) & (surfaces < np.inf))
    if wrong.any():
        row, value = _first_row(wrong), surfaces[wrong][0]
        raise ValueError(f"iv must be positive and finite where it is known, but row {row} holds {value:g}")
    _check_gaps("iv", known, reads_missing=reads_missing)
    plausible.check_surfaces(surfaces, allowed)
    return surfaces


class Allowed(NamedTuple):
    """Numbers that a point may have.

    Attributes:
        low, high: the ends of the range, which are allowed.
        what: the range in words.
    """

    low: float
    high: float
    what: str


def allowed_points(likelihood: str, transform: str) -> Allowed:
    """The numbers that a point of a vector may have."""
    if likelihood == "bernoulli":
        return Allowed(0.0, 1.0, "from 0 to 1")
    if transform == "log":
        return Allowed(float(np.finfo(np.float32).tiny), _LARGEST, "positive and finite")
    return Allowed(-_LARGEST, _LARGEST, "finite in single precision")


def vector_batch(x: ArrayLike, dimension: int, *, allowed: Allowed, reads_missing: bool) -> Array:
    """Vectors as float32 [batch, D], NaN where a point is missing.

    Raises:
        ValueError: another shape, a number that is not allowed, a vector without a known point, or a missing point
            where the model was not trained to read them.
    """
    with np.errstate(over="ignore"):  # too large for single precision is infinite
        vectors = _batch("x", x, (dimension,))
    known = ~np.isnan(vectors)
    wrong = known & ~((vectors >= allowed.low) & (vectors <= allowed.high))
    if wrong.any():
        row, value = _first_row(wrong), vectors[wrong][0]
        raise ValueError(f"x must be {allowed.what} where it is known, but row {row} holds {value:g}")
    _check_gaps("x", known, reads_missing=reads_missing)
    return vectors


def data_feeds(name: str, data: Array, *, reads_missing: bool) -> Feeds:
    """Surfaces or vectors as the graphs read them under this name: with a mask where the model has one."""
    if not reads_missing:
        return {name: data}
    known = ~np.isnan(data)
    return {name: np.where(known, data, np.float32(0.2)), "mask": known.astype(np.float32)}


def quote_feeds(
    grid: Grid,
    iv: ArrayLike,
    tenor: ArrayLike | None,
    log_moneyness: ArrayLike | None,
    call_delta: ArrayLike | None,
    weight: ArrayLike,
    allowed: Interval,
) -> Feeds:
    """The columns that the completer reads, each [quote]; see ``SurfaceModel.complete`` for the arguments.

    The median vol must be ``allowed``.

    Raises:
        ValueError: shapes that do not agree, coordinates that are missing or doubled, numbers out of range, or vols,
            tenors or coordinates in another unit.
    """
    vols = np.asarray(unmasked(iv), np.float64)
    if tenor is None and log_moneyness is None and call_delta is None:
        return _known_points(grid, vols, weight, allowed)
    if tenor is None or (log_moneyness is None) == (call_delta is None):
        raise ValueError("quotes need tenor and one of log_moneyness and call_delta")
    coordinate = log_moneyness if call_delta is None else call_delta
    try:
        others = (np.asarray(unmasked(part), np.float64) for part in (tenor, coordinate, weight))
        columns = np.broadcast_arrays(vols, *others)
    except ValueError as error:
        raise ValueError(f"iv, tenor, coordinates and weight differ in shape: {error}") from error
    vols, years, k, weights = (np.atleast_1d(column) for column in columns)
    if vols.ndim != 1 or not 1 <= vols.size <= _MOST_QUOTES:
        raise ValueError(f"quotes have shape {vols.shape}; allowed: [quote], 1 to {_MOST_QUOTES:,} of them")
    _check_positive(iv=vols, tenor=years, weight=weights)
    _check_each("log_moneyness" if call_delta is None else "call_delta", k, np.isfinite(k), "finite")
    plausible.check_tenors(years)
    if call_delta is None:
        plausible.check_log_moneyness(k)
    else:
        plausible.check_call_deltas(k)
        k = log_moneyness_of_delta(k, vols * np.sqrt(years))
    plausible.check_vols(vols, allowed)
    return _completer_feeds(k, years, vols, weights)


def check_weights(quotes: Feeds, noise: float) -> None:
    """Raise ValueError for weights of another scale, by which quotes are off by more than they are themselves.

    Args:
        quotes: what the completer reads.
        noise: of a quote of weight 1, decimal vol.
    """
    weight, vol = (float(np.median(quotes[name])) for name in ("weight", "iv"))
    if weight < (noise / vol) ** 2:
        raise ValueError(
            f"the median weight {weight:.3g} says that quotes of {100.0 * vol:.3g} % are off by more than that; the "
            f"weight of a quote that is off by e is ({noise:.3g} / e)^2, and 1 that of the data that the model learned"
        )


def check_return(log_return: float | None, *, has_return: bool, needed: bool = False) -> None:
    """Raise ValueError for a log return of one step that a law of motion cannot take.

    Args:
        log_return: of the underlying; None where it is not given.
        has_return: whether the law has one.
        needed: whether it must be given where the law has one.
    """
    if log_return is None:
        if has_return and needed:
            raise ValueError("log_return is None; allowed: a number, as the law has the return of the underlying")
        return
    if not has_return:
        raise ValueError(f"log_return is {log_return}; allowed: None, as the law has no return of the underlying")
    if not abs(log_return) <= 1.0:  # nan, or one in percent: nothing falls to a third in a step
        raise ValueError(f"log_return is {log_return:g}; allowed: -1 to 1, such as log(0.95) for a fall of 5 %")


def unmasked(values: ArrayLike | None) -> Any:  # noqa: ANN401 - what it got, but for a masked array
    """The values, of which a masked array has NaN where it is masked: numpy would read what lies below the mask.

    >>> unmasked(np.ma.masked_array([1.0, 9.0], [False, True]))
    array([ 1., nan])
    """
    if not isinstance(values, np.ma.MaskedArray):
        return values
    kind = values.dtype if values.dtype.kind == "f" else np.float64
    return np.where(np.ma.getmaskarray(values), np.nan, values.data).astype(kind)


def writable(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    """The array, where a graph can write into it.

    Raises:
        ValueError: another shape, type or order, or read-only memory.
    """
    if array.shape != shape or array.dtype != np.float32 or not (array.flags.c_contiguous and array.flags.writeable):
        raise ValueError(
            f"{name} must be a writable, contiguous float32 array of shape {list(shape)}, not {array.dtype} of shape "
            f"{list(array.shape)}"
        )
    return array


def slices(count: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most ``size`` rows that cover ``count`` rows."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def as_date(day: object) -> dt.date:
    """The date of a date, a time or a Timestamp of pandas, or one of numpy.

    Raises:
        ValueError: it is none.

    >>> as_date(np.datetime64("2026-03-02T16:00"))
    datetime.date(2026, 3, 2)
    """
    found: object = day.astype("datetime64[D]").item() if isinstance(day, np.datetime64) else day
    if isinstance(found, dt.datetime):
        return found.date()
    if isinstance(found, dt.date):
        return found
    raise ValueError(f"{day!r} is no date; allowed: datetime.date, and times, whose dates count")


def whole(name: str, value: int) -> int:
    """A whole number, which one with decimals is not: it would be cut, and another seed be drawn than was said."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; allowed: a whole number") from None


def condition_ranges(manifest: Mapping[str, Any]) -> Ranges:
    """The values of each condition that the law of a bundle makes likely; all numbers where its manifest has none.

    Raises:
        ValueError: a range is none.
    """
    known = manifest.get("condition_ranges", {})
    found = {}
    for name in manifest["conditions"]:
        low, high = map(float, known.get(name, (-_LARGEST, _LARGEST)))
        if not -_LARGEST <= low <= high <= _LARGEST:
            raise ValueError(f"the range of the condition {name} is {low} to {high}")
        found[str(name)] = (low, high)
    return found


def _condition_values(conditions: Mapping[str, float], ranges: Ranges) -> Array:
    """Values in the order of ``ranges``, NaN for a condition that is left free, [condition]."""
    for name, value in conditions.items():
        if name not in ranges:
            raise ValueError(f"{name!r} is not a condition; allowed: {', '.join(ranges) or 'none'}")
        if not abs(value) <= _LARGEST:
            raise ValueError(f"the condition {name} is {value}; it must be finite in single precision")
        _check_likely(name, value, *ranges[name])
    return np.array([conditions.get(name, np.nan) for name in ranges], np.float32)


def _check_likely(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError for a condition outside of its range: no surface that the model knows has it."""
    if not low <= value <= high:
        percent = "; it looks like a percentage: divide by 100" if low <= 0.01 * value <= high else ""
        raise ValueError(f"the condition {name} is {value:g}; the model knows {low:.4g} to {high:.4g}{percent}")


def _known_points(grid: Grid, iv: NDArray[np.float64], weight: ArrayLike, allowed: Interval) -> Feeds:
    """The known points of a surface [tenor, node] as quotes."""
    if iv.shape != grid.shape:
        raise ValueError(f"iv has shape {iv.shape}; expected {grid.shape}, or quotes with their coordinates")
    known = np.isfinite(iv)
    if not 1 <= known.sum() <= _MOST_QUOTES:
        raise ValueError(f"iv has {known.sum()} known points; allowed: 1 to {_MOST_QUOTES:,}")
    years = np.broadcast_to(grid.tenors[:, None], iv.shape)[known]
    weights = np.broadcast_to(np.asarray(unmasked(weight), np.float64), iv.shape)[known]
    k = np.broadcast_to(grid.log_moneyness_of(iv), iv.shape)[known]
    _check_positive(iv=iv[known], weight=weights)
    plausible.check_vols(iv, allowed)
    return _completer_feeds(k, years, iv[known], weights)


def _completer_feeds(
    k: NDArray[np.float64], years: NDArray[np.float64], vols: NDArray[np.float64], weights: NDArray[np.float64]
) -> Feeds:
    """Checked quotes, each [quote], as the completer reads them."""
    # A number that is too large for single precision becomes infinite, which is outside of every grid.
    with np.errstate(over="ignore"):
        values = (column.astype(np.float32) for column in (k, years, vols, weights))
        return dict(zip(QUOTE_COLUMNS, values, strict=True))


def _check_positive(**columns: NDArray[np.float64]) -> None:
    """Raise ValueError unless all numbers of all columns, each [quote], are positive and finite."""
    for name, column in columns.items():
        _check_each(name, column, (column > 0.0) & (column < np.inf), "positive and finite")


def _check_each(name: str, column: NDArray[np.float64], right: NDArray[np.bool_], what: str) -> None:
    """Raise ValueError that names the first quote, counted from 0, whose number is not right."""
    if not right.all():
        row = int(np.argmin(right))
        raise ValueError(f"{name} of quote {row} is {column[row]:g}; it must be {what}")


def _batch(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Values as contiguous float32 [batch, *shape]."""
    array = np.ascontiguousarray(unmasked(values), np.float32)
    if array.ndim != 1 + len(shape) or array.shape[1:] != shape or not len(array):
        raise ValueError(f"{name} has shape {array.shape}; expected (batch, {', '.join(map(str, shape))}), not empty")
    return array


def _check_gaps(name: str, known: NDArray[np.bool_], *, reads_missing: bool) -> None:
    """Raise ValueError for rows [batch, ...] without a known point, or with missing ones that the model cannot read."""
    if not reads_missing and not known.all():
        row = _first_row(~known)
        raise ValueError(f"row {row} of {name} has missing points, which this model was not trained to read")
    empty = np.asarray(~known.reshape(len(known), -1).any(axis=1))
    if empty.any():
        raise ValueError(f"row {_first_row(empty)} of {name} has no known point")


def _first_row(wrong: NDArray[np.bool_]) -> int:
    """The first row [batch, ...] in which a value is true."""
    return int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
