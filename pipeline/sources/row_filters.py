"""Rows that a user drops: columns of true and false, or comparisons such as ``volume < 10`` on any column."""

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.sources.columns import Columns

Mask = NDArray[np.bool_]

_COMPARISON = re.compile(r"(?P<column>.+?)\s*(?P<sign>==|!=|<=|>=|<|>)\s*(?P<value>.+)")
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


def dropped(source: Columns, conditions: Sequence[str]) -> Mask:
    """Rows where any condition holds, [row]. A comparison with an empty cell does not hold, but for ``!=``.

    Raises:
        InputError: a column is missing, or is not of the kind that its condition needs.
    """
    return np.asarray(np.logical_or.reduce([_holds(source, condition) for condition in conditions]), bool)


def _holds(source: Columns, condition: str) -> Mask:
    """Rows where one condition holds, [row]."""
    comparison = _COMPARISON.fullmatch(condition.strip())
    if condition in source or comparison is None:
        return np.asarray(source.flags(condition), bool)
    name, sign, value = comparison["column"], comparison["sign"], comparison["value"].strip("'\"")
    compare = _SIGNS[sign]
    try:
        number = float(value)
    except ValueError:
        return _text_holds(source, name, sign, value)
    return np.asarray(compare(source.numbers(name), number), bool)


def _text_holds(source: Columns, name: str, sign: str, value: str) -> Mask:
    """Rows where a text equals the value, or does not, [row]."""
    if sign not in ("==", "!="):
        raise InputError(f"prepare.quotes.drop_where: {name} {sign} {value}: texts are compared by == and != only")
    texts = source.texts(name)
    equal = texts.code == (texts.values.index(value) if value in texts.values else -1)
    return np.asarray(equal if sign == "==" else ~equal)
