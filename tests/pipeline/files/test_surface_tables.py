"""Tables with columns of quotes beside those of surfaces are told from quotes in one reading of the file."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.files import surface_tables
from vae.surface.grid import Grid

GRID = Grid(np.array([0.1, 1.0]), np.linspace(-0.2, 0.2, 5), "log_moneyness")
POINTS = {
    "tenor_years": np.repeat(GRID.tenors, 5),
    "log_moneyness": np.tile(GRID.nodes, 2),
    "iv": np.linspace(0.2, 0.3, 10).astype(np.float32),
}


def saved(path: Path, **more: object) -> Path:
    columns = {**POINTS, **{name: np.resize(values, 10) for name, values in more.items()}}
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        rows = zip(*(values.tolist() for values in columns.values()), strict=True)
        path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_one_surface_with_its_date_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    path = saved(tmp_path / f"s.{ending}", date=["2026-03-02"], bid=[0.2])
    opened: list[tuple[object, ...]] = []
    for place, name in ((Path, "read_text"), (pq, "ParquetFile"), (pq, "read_table")):
        real = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *a, _real=real, **k: opened.append(a) or _real(*a, **k))
    found = surface_tables.surfaces_of_table(path, GRID)
    assert found is not None
    np.testing.assert_allclose(found[0].ravel(), POINTS["iv"], rtol=1e-6)
    assert sum(str(path) in map(str, given) for given in opened) == 1


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_what_is_no_one_surface_is_quotes(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"s.{ending}"
    assert surface_tables.surfaces_of_table(saved(path, date=["2026-03-02", "2026-03-03"])) is None
    assert surface_tables.surfaces_of_table(saved(path, market=["DAX", "SPX"])) is None
    other = Grid(np.array([0.1, 2.0]), GRID.nodes, GRID.convention)
    assert surface_tables.surfaces_of_table(saved(path, date=["2026-03-02"]), other) is None
    assert surface_tables.surfaces_of_table(saved(path), other) is not None  # whose grid its reader names


def test_points_of_another_convention_are_another_grid(tmp_path: Path) -> None:
    """Nodes that are k at all tenors, and nodes that are k over the root of the tenor, are the same numbers."""
    path = saved(tmp_path / "s.csv")
    assert surface_tables.read_on_grid(path, GRID).shape == (1, 2, 5)
    for convention, nodes in (("sqrt_time", GRID.nodes), ("delta", np.linspace(0.1, 0.9, 5))):
        with pytest.raises(InputError, match=rf"on another grid than the model's 2 tenors x 5 nodes \({convention} "):
            surface_tables.read_on_grid(path, Grid(GRID.tenors, nodes, convention))
