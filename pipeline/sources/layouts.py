"""Tables with several quotes a row, turned into rows of one quote before anything else looks at them.

The columns of a layout are read under the name of what they hold and their part: ``iv.3``, ``bid.call``, ``iv.atm``.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.settings.quote_layout import CallPutParams, FxParams, WideParams
from pipeline.settings.quotes import QuotesParams
from pipeline.sources import fx_layout, quote_tenors
from pipeline.sources.columns import Array, Index

_SIDES = ("call", "put")
_BESIDE = ("weight", "volume", "open_interest")  # columns that are no quote


class Long(NamedTuple):
    """Rows of one quote.

    Attributes:
        columns: by canonical name, [quote].
        row: of the file, counted from 0, [quote].
    """

    columns: dict[str, Array]
    row: Index


def parts(names: Mapping[str, str], params: QuotesParams, file_names: list[str]) -> dict[str, str]:
    """The columns of the file to read, where a layout makes some of the canonical ones.

    Args:
        names: columns by canonical name; those that the layout makes are no columns of the file.
        params: the settings.
        file_names: all columns of the file.

    Returns:
        Columns by canonical name or part.

    Raises:
        InputError: no name of a column is a number, where the settings say that some are.
    """
    layout = params.layout
    if layout is None:
        return dict(names)
    own = {key: name for key, name in names.items() if key not in layout.made()}
    if isinstance(layout, FxParams):
        return own | {f"iv.{part}": name for part, name in fx_layout.parts(layout).items()}
    if isinstance(layout, CallPutParams):
        sides = zip(_SIDES, (layout.call.names, layout.put.names), strict=True)
        return own | {f"{key}.{side}": name for side, columns in sides for key, name in columns.items()}
    return own | {f"iv.{i}": name for i, name in enumerate(_coordinates(layout, params.path, file_names))}


def long(found: Mapping[str, Array], dates: Array, params: QuotesParams, file_names: list[str]) -> Long:
    """Rows of one quote from the columns of ``parts``, [row of the file].

    Args:
        found: the columns.
        dates: days since 1970-01-01, [row].
        params: the settings.
        file_names: all columns of the file.

    Returns:
        All columns but the parts are repeated. A cell, or a side, without any number is no quote.
    """
    layout = params.layout
    if layout is None:
        return Long(dict(found), np.arange(len(dates)))
    if isinstance(layout, FxParams):
        columns, row = fx_layout.long(found, quote_tenors.years(found, dates, params), params, layout)
    elif isinstance(layout, CallPutParams):
        columns, row = _sides(found, list(layout.call.names))
    else:
        columns, row = _vols(found, layout, _coordinates(layout, params.path, file_names))
    if not len(row):
        raise InputError(f"{params.path} has no number in the columns {layout.made().get('iv', 'of calls and puts')}")
    repeated = {key: values[row] for key, values in found.items() if key.split(".")[0] not in columns}
    return Long(repeated | columns, row)


def _vols(found: Mapping[str, Array], wide: WideParams, places: Mapping[str, float]) -> tuple[dict[str, Array], Index]:
    """A row for each vol of a table with a column for each coordinate."""
    vols = np.stack([found[f"iv.{i}"] for i in range(len(places))], axis=1)
    row, column = np.nonzero(np.isfinite(vols))
    columns = {wide.coordinate: np.array(list(places.values()))[column], "iv": vols[row, column]}
    return columns | ({"spot": np.ones(len(row))} if wide.coordinate == "moneyness" else {}), row


def _sides(found: Mapping[str, Array], keys: list[str]) -> tuple[dict[str, Array], Index]:
    """A row for the call and one for the put of each row."""
    columns = {key: np.concatenate([found[f"{key}.{side}"] for side in _SIDES]) for key in keys}
    rows = len(columns[keys[0]]) // 2
    quoted = np.any([np.isfinite(columns[key]) for key in keys if key not in _BESIDE], axis=0)
    columns["type"] = np.repeat([0.0, 1.0], rows)
    return {key: values[quoted] for key, values in columns.items()}, np.tile(np.arange(rows), 2)[quoted]


def _coordinates(wide: WideParams, path: str, file_names: list[str]) -> Mapping[str, float]:
    """The coordinate of each column of vols."""
    if wide.columns != "numbers":
        return wide.columns
    found = {name: number for name in file_names if (number := _number(name)) is not None}
    if not found:
        raise InputError(f"{path}: no name of a column is a number; its columns: {', '.join(file_names)}")
    return found


def _number(name: str) -> float | None:
    """The number that a name is; of 90% the share."""
    try:
        number = float(name.removesuffix("%")) / (100.0 if name.endswith("%") else 1.0)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
