"""Columns of a file in one call, each as what it must be."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.sources import columns
from pipeline.sources.columns import Columns, Wanted
from pipeline.tables import dates

CSV = "day,at,vol,side,bad\n2024-01-02,2024-01-02 12:00:00,0.2, Put ,true\n,,,,\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "q.csv"
    path.write_text(CSV)
    return path


def test_each_kind_is_an_array_of_numbers_by_the_callers_name(path: Path) -> None:
    """Empty is NaN, and false of flags."""
    found = columns.read(
        path,
        {
            "date": Wanted("day", "day"),
            "quoted_at": Wanted("at", "instant"),
            "same_day": Wanted("at", "day"),
            "iv": Wanted("vol", "number"),
            "type": Wanted("side", (("call", "c"), ("put", "p"))),
            "flagged": Wanted("bad", "flag"),
        },
    )
    day = 19_724.0  # 2024-01-02 in days since 1970-01-01
    expected = {
        "date": [day, np.nan],
        "quoted_at": [day + 0.5, np.nan],
        "same_day": [day, np.nan],
        "iv": [0.2, np.nan],
        "type": [1.0, np.nan],
        "flagged": [1.0, 0.0],
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == np.float64
        np.testing.assert_array_equal(found[name], values)


def test_names_are_found_in_any_case_and_by_their_number(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text(" IV ,Strike,IV,strike,#x\n0.2,100,0.3,101,#N/A Invalid Security\n")
    source = Columns.read(path)
    assert [source.numbers(name)[0] for name in ("IV[1]", "iv[2]", "Strike", " strike ")] == [0.2, 0.3, 100.0, 101.0]
    assert np.isnan(source.numbers("#X")[0])
    for name, message in (("IV", r"has 2 columns IV; name one as IV\[1\] to IV\[2\]"), ("IV[3]", "no column IV")):
        with pytest.raises(InputError, match=message):
            source.numbers(name)


@pytest.mark.parametrize(
    ("text", "strike", "found"),
    [
        ("iv;strike\n43,66;18.600\n42,00;18.700\n", 18600.0, "separated by semicolon, decimal mark ','"),
        ('iv,strike\n"43,66",18.600\n"42,00",18.700\n', 18600.0, "separated by comma, decimal mark ','"),
        ("iv,strike\n20,18.600\n", 18.6, "separated by comma, decimal mark '.'"),
        ("iv;strike\n20;18.600\n", None, "separated by semicolon"),
        ('iv,strike,x\n"43,66",18.600,1.5\n', None, "separated by comma"),
    ],
)
def test_a_number_of_two_readings_has_the_decimal_mark_of_the_file(
    tmp_path: Path, text: str, strike: float | None, found: str
) -> None:
    path = tmp_path / "q.csv"
    path.write_text(text)
    source = Columns.read(path)
    assert str(source.format) == found
    if strike is not None:
        assert source.numbers("strike")[0] == strike
        return
    with pytest.raises(InputError, match=r"column strike holds '18\.600' in row 1: thousands or decimals"):
        source.numbers("strike")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    ends = pa.array([0, 1], pa.int32()).buffers()[1]
    broken = pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(b"\xff")])
    pq.write_table(pa.table({"iv": broken}), path)
    with pytest.raises(InputError, match="column iv is no text in UTF-8"):
        columns.read(path, {"iv": Wanted("iv", "number")})


def test_any_column_can_be_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("root,id\n SPXW,7\nSPX,7\n,\nSPX,12\n")
    source = Columns.read(path)
    roots, ids = source.texts("root"), source.texts("id")
    assert roots.values == ("SPX", "SPXW")
    np.testing.assert_array_equal(roots.code, [1.0, 0.0, np.nan, 0.0])
    assert ids.values == ("12", "7")
    np.testing.assert_array_equal(ids.code, [1.0, 1.0, np.nan, 0.0])


def test_all_faults_of_a_file_are_told_together(path: Path) -> None:
    wanted = {"k": Wanted("k", "number"), "l": Wanted("l", "number"), "iv": Wanted("side", "number")}
    with pytest.raises(InputError) as found:
        columns.read(path, wanted | {"date": Wanted("vol", "day")})
    assert str(found.value).splitlines() == [
        f"{path} has 3 faults:",
        "  has no column k, l; its columns (separated by comma, decimal mark '.'): day, at, vol, side, bad",
        "  column side holds 'Put' in row 1, but must hold numbers",
        f"  column vol holds '0.2' in row 1, which is not a date; {dates.ALLOWED}",
    ]


@pytest.mark.parametrize(
    "other",
    [
        pa.array([1], pa.time64("us")),
        pa.array([1], pa.duration("us")),
        pa.array([b"\xff\xfe"]),
        pa.array([[0.5]]),
        pa.array([{"gamma": 0.5}]),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    ],
    ids=lambda other: str(other.type),
)
def test_a_column_of_a_kind_that_is_not_read_is_named_by_whatever_reads_it(tmp_path: Path, other: pa.Array) -> None:
    pq.write_table(pa.table({"iv": [0.2], "other": other}), tmp_path / "q.parquet")
    source = Columns.read(tmp_path / "q.parquet")
    kind = str(other.type).partition("<")[0]  # Parquet has names of its own for what is inside
    no_text = pa.types.is_nested(other.type) or pa.types.is_binary(other.type)
    for read in (source.numbers, source.instants, source.tenors, source.flags, *([source.texts] if no_text else [])):
        with pytest.raises(InputError, match=f"q.parquet: column other holds {re.escape(kind)}.*, "):
            read("other")
