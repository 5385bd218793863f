"""Deltas as files have them, signed or in percent, of spot or forward, as forward deltas of the call at the strike."""

from collections.abc import Mapping

import numpy as np

from pipeline.errors import InputError
from pipeline.settings.quotes import QuotesParams
from pipeline.sources.columns import Array

_UNITS = {"decimal": 1.0, "percent": 0.01}
_DIGITS = 9  # decimals: the call delta of a put of -0.1 and 0.9 are one place


def call_deltas(found: Mapping[str, Array], values: Mapping[str, Array], params: QuotesParams) -> Array:
    """The forward call delta N(d1) of each row; outside (0, 1) where a delta is none, [row].

    A put of forward delta -d and the call of 1 - d have one strike. Spot deltas are forward deltas times
    e^(-dividend_yield tenor).

    Args:
        found: call_delta or delta as the file has it.
        values: tenor, and where the file has them dividend_yield and put (1 or 0), in canonical units.
        params: settings.

    Raises:
        InputError: deltas are in another unit than the settings say, or their signs are not those of their types.
    """
    if "call_delta" in found:
        delta = found["call_delta"] * _UNITS[params.delta_unit]
        _check_unit(delta, params, "call_delta")
        _check_call_deltas(delta, params)
    else:
        delta = found["delta"] * _UNITS[params.delta_unit]
        _check_unit(delta, params, "delta")
        delta = _signed(delta, values.get("put"), params)
    growth = np.exp(values.get("dividend_yield", params.dividend_yield) * values["tenor"])
    forward = delta * growth if params.delta_kind == "spot" else delta
    return np.where(forward < 0.0, 1.0 + forward, forward).round(_DIGITS)


def _signed(delta: Array, put: Array | None, params: QuotesParams) -> Array:
    """Deltas with the sign of their options; the type and the sign must agree."""
    if put is None:
        return delta
    if params.delta_sign == "absolute":
        return np.where(put == 1.0, -np.abs(delta), np.abs(delta))
    wrong = ((put == 1.0) & (delta > 0.0)) | ((put == 0.0) & (delta < 0.0))
    if wrong.any():
        row = int(np.argmax(wrong))
        kind = "put" if put[row] == 1.0 else "call"
        raise InputError(
            f"{params.path}: column {params.columns.delta} has {delta[row]:g} for a {kind} in row {row + 1}, but "
            "deltas of puts must be negative and those of calls positive; for deltas without signs set "
            "prepare.quotes.delta_sign: absolute, and for those of the call at each strike name the column in "
            "prepare.quotes.columns.call_delta"
        )
    return delta


def _check_call_deltas(delta: Array, params: QuotesParams) -> None:
    """Raise InputError for deltas of puts."""
    negative = delta < 0.0
    if negative.any():
        row = int(np.argmax(negative))
        raise InputError(
            f"{params.path}: column {params.columns.call_delta} has {delta[row]:g} in row {row + 1}, the delta of a "
            "put, but must hold those of calls; name it in prepare.quotes.columns.delta instead of call_delta"
        )


def _check_unit(delta: Array, params: QuotesParams, name: str) -> None:
    """Raise InputError for deltas in another unit than the settings say."""
    known = np.abs(delta[np.isfinite(delta)])
    if not len(known):
        return
    column, largest = getattr(params.columns, name), float(known.max())
    if params.delta_unit == "decimal" and np.median(known) > 1.0:
        raise InputError(
            f"{params.path}: column {column} has deltas up to {largest:g}, but decimal ones are within -1 and 1; for "
            "deltas in percent set prepare.quotes.delta_unit: percent"
        )
    if params.delta_unit == "percent" and largest <= 0.01:
        raise InputError(
            f"{params.path}: column {column} has deltas up to {100.0 * largest:g}, which in percent are below 1; for "
            "decimal deltas set prepare.quotes.delta_unit: decimal"
        )
