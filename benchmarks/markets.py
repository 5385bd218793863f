"""One model of two currency pairs beside a model of each: errors of completion on the same days.

The pairs are joined into one file with a column of their name, which is prepared once. A model of its own sees the
surfaces of one pair in the same splits, with the same settings but the condition `market`.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from benchmarks import card
from pipeline import train
from pipeline.errors import InputError
from pipeline.evaluate import evaluate
from pipeline.files import trained_model
from pipeline.files.dataset import SPLITS, Dataset
from pipeline.market_figures import name_of
from pipeline.settings.params import Params
from pipeline.settings.prepare import QuotesPrepare
from pipeline.sources import quotes

FOLDER = "VOLVAE_MARKET_DATA"  # the environment variable that names the folder of the files
FILES = {"AUDUSD": "fx_audusd/audusd_2012_2019.parquet", "EURUSD": "fx_eurusd/eurusd_2012_2019.parquet"}
KNOWN = (5, 10, 20)  # points from which surfaces are completed
BAR = 1.05  # largest error of the model of both, over that of a model of its own

_PARAMS = Path("params.yaml").absolute()
_PREPARE = {
    "source": "quotes",
    "grid": {
        "convention": "delta",
        "tenors_days": [30.416667, 60.833333, 91.25, 182.5, 273.75, 365, 1095, 1825],
        "nodes": [0.1, 0.25, 0.5, 0.75, 0.9],
    },
    "quotes": {
        "path": "pairs.parquet",
        "columns": {
            "date": "date", "market": "market", "tenor_years": "tenor_years", "call_delta": "call_delta", "iv": "iv",
        },
        "drop_where": "suspect",
        "splits": {"train": 0.8, "validation": 0.05, "test": 0.15},
    },
}  # fmt: skip
_MODEL = {
    "latents": 39, "basis": 40, "width": 16, "depth": 1, "transform": "log", "residual_factors": 39,
}  # fmt: skip
_TRAIN = {
    "model": _MODEL, "scaffold_latents": 0, "epochs": 100, "batch": 128, "learning_rate": 1.0e-3, "weight_decay": 1.0,
    "hidden_share": 0.2, "half_life_days": 500, "refit": True, "arbitrage": {"epochs": 0}, "device": "cpu",
}  # fmt: skip
_EVALUATE = {"importance_samples": [1, 2], "prior_samples": 100, "completion_points": list(KNOWN)}


def main() -> None:
    """Print the figures."""
    try:
        found = results()
    except InputError as error:
        raise SystemExit(str(error)) from error
    card.show(found, *verdicts(found))


def results() -> dict[str, float]:
    """Errors in bp of the models of one pair and of both, and their ratios, by pair and number of known points.

    Raises:
        InputError: the environment variable is not set, or a file cannot be read.
    """
    if FOLDER not in os.environ:
        raise InputError(f"{FOLDER} is not set; it names the folder of {', '.join(FILES.values())}")
    found: dict[str, float] = {}
    with _joined() as folder:
        both = _figures(folder / "both", conditions=["market"])
        for market in FILES:
            own = _figures(folder / market, conditions=[])
            for known in KNOWN:
                name = f"completion_mae_bp_{known}"
                alone, shared = own[name], both[name_of(name, market)]
                found |= {
                    f"markets_{market}_{known}_points_own_bp": alone,
                    f"markets_{market}_{known}_points_both_bp": shared,
                    f"markets_{market}_{known}_points_both_by_own": shared / alone,
                }
    return found


def verdicts(results: dict[str, float]) -> list[str]:
    """A line of text for the ratio that must be reached."""
    worst = max(value for name, value in results.items() if name.endswith("_both_by_own"))
    return [
        f"markets: one model of both pairs has at most {worst:.3g} times the error of a model of its own; the bar of "
        f"{BAR:g} is {'met' if worst <= BAR else 'missed'}"
    ]


@contextlib.contextmanager
def _joined() -> Iterator[Path]:
    """A temporary folder, made the current one, with the surfaces of both pairs and of each."""
    source = Path(os.environ[FOLDER])
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        tables = []
        for market, file in FILES.items():
            table = pq.read_table(source / file)
            tables.append(table.append_column("market", pa.array([market] * len(table))))
        pq.write_table(pa.concat_tables(tables), "pairs.parquet")
        settings = _params([]).prepare
        assert isinstance(settings, QuotesPrepare)
        folder = Path(name)
        (folder / "both").mkdir()
        quotes.write(settings, folder / "both")
        for market in FILES:
            _write_own(Dataset(folder / "both"), market, folder / market)
        yield folder


def _write_own(both: Dataset, market: str, folder: Path) -> None:
    """Write the surfaces of one market, in the splits that they have among those of all."""
    folder.mkdir()
    own = Dataset(folder)
    own.write_grid(both.grid)
    for split in SPLITS:
        arrays, place = both.arrays(split), both.market(split)
        chosen = place == both.markets.index(market)
        own.write_surfaces(split, arrays["iv"][chosen], arrays["date"][chosen], {})


def _figures(surfaces: Path, *, conditions: list[str]) -> dict[str, float]:
    """The figures of the model that is trained on a folder of surfaces."""
    params, model = _params(conditions), surfaces.with_suffix(".model")
    train.main(params.train, surfaces=surfaces, model=model, metrics=Path("train.json"), curve=Path("curve.csv"))
    return evaluate(trained_model.read(model), Dataset(surfaces), params.evaluate).figures


def _params(conditions: list[str]) -> Params:
    """The settings of the project with those of the pairs."""
    values: dict[str, Any] = YAML(typ="safe").load(_PARAMS)
    values["prepare"] = _PREPARE
    values["train"] |= _TRAIN | {"conditions": conditions}
    values["evaluate"] |= _EVALUATE
    return Params.model_validate(values)


if __name__ == "__main__":
    main()
