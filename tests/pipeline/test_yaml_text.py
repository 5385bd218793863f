"""YAML is read as plain values, or refused in one line; no text ends the process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.yaml_text import TextError, load

_PIECES = [
    "[",
    "]",
    "{",
    "}",
    "- ",
    ": ",
    ", ",
    "? ",
    "a",
    "1",
    "\n",
    "  ",
    "&x ",
    "*x",
    "!!int ",
    "'",
    "|\n",
    "<<: ",
    "#",
]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "[{a: "])
def test_deep_nesting_is_refused_and_does_not_crash(opening: str) -> None:
    with pytest.raises(TextError, match=r"^it is nested more than 50 levels deep$"):
        load(opening * 100_000)


def test_fifty_levels_are_read() -> None:
    value = load("[" * 50 + "]" * 50)
    for _ in range(49):
        (value,) = value
    assert value == []
    with pytest.raises(TextError, match="nested more than"):
        load("[" * 51 + "]" * 51)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 2020-13-45", "month must be in 1..12"),
        ("a: !!int x", "invalid literal for int"),
        (b"a: \xff", "invalid leading UTF-8 octet in position 3"),
        ("a: [1", "did not find expected ',' or ']' in line 2, column 1"),
        ("a: 1\na: 2", "found duplicate key"),
    ],
)
def test_what_is_no_yaml_is_one_line(text: str | bytes, message: str) -> None:
    with pytest.raises(TextError, match=message) as raised:
        load(text)
    assert "\n" not in str(raised.value)
    assert "string>" not in str(raised.value)


@given(st.lists(st.sampled_from(_PIECES), max_size=40).map("".join) | st.binary(max_size=60))
def test_any_text_has_a_value_or_is_refused_in_one_line(text: str | bytes) -> None:
    refused = ""
    try:
        load(text)
    except TextError as error:
        refused = str(error)
    assert "\n" not in refused
