"""Quotes as score, arbitrage and drift read them, and their assumptions."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import surface_files
from pipeline.cli.quotes_options import ReadingOptions
from tests.chains import GRID, PRICES, chain


@pytest.mark.parametrize(
    ("names", "values", "said"),
    [
        (PRICES, {}, ["prices are read as of european options, which nothing says; of american ones vols may be"]),
        (PRICES, {"exercise": "european"}, []),
        (
            ("date", "days", "strike", "spot", "iv"),
            {},
            [
                f"forwards are made of spots with {name} 0, as no column is read for it"
                for name in ("rate", "dividend_yield")
            ],
        ),
    ],
)
def test_assumptions_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, ...], values: dict[str, str], said: list[str]
) -> None:
    file = tmp_path / "q.parquet"
    pq.write_table(pa.table({name: chain()[name] for name in names}), file)
    surface_files.read(file, ReadingOptions(None, {}, values), lambda: GRID)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("volvae: ")]
    assert [line.startswith(f"volvae: {start}") for line, start in zip(lines, said, strict=True)] == [True] * len(said)
