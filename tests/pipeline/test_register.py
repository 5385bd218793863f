"""The identity of a version: files and the settings that can change them, nothing else; and whom it is held against."""

import datetime as dt
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline import register
from pipeline.errors import StageError
from pipeline.register import HeldOut
from pipeline.register_record import identity
from pipeline.registry import gate
from pipeline.registry.mlflow_store import CONTENT
from pipeline.registry.registry import Version
from pipeline.settings.params import Params
from tests.workspace import Workspace
from vae.surface.grid import Grid

STAGES = {
    "prepare": {"deps": {}, "outs": {"data/surfaces": "1.dir", "results/prepare.json": "2"}},
    "train": {"deps": {"data/surfaces": "1.dir"}, "outs": {"artifacts/model": "3.dir"}},
}


@pytest.mark.parametrize(
    "changes",
    [
        {"prepare__workers": 3},
        {"prepare__engine": "dask", "prepare__address": "tcp://host:8786"},
        {"train__checkpoint_epochs": 17},
        {"register__gate__worse_nats": 17.0},
        {"register__promote": False},
        {"retrain__age_days": 17.0},
    ],
)
def test_settings_that_cannot_change_the_files_make_no_new_version(
    workspace: Workspace, changes: dict[str, Any]
) -> None:
    before = workspace.params()
    workspace.set(**changes)
    after = workspace.params()
    assert after != before
    assert identity(STAGES, after) == identity(STAGES, before)


@pytest.mark.parametrize(
    "changes", [{"prepare__seed": 8}, {"prepare__quote_noise_bp": 2.0}, {"train__epochs": 9}, {"export__fp16": True}]
)
def test_settings_that_shape_the_files_make_a_new_version(workspace: Workspace, changes: dict[str, Any]) -> None:
    before = workspace.params()
    workspace.set(**changes)
    assert identity(STAGES, workspace.params()) != identity(STAGES, before)


@pytest.mark.parametrize(("path", "same"), [("artifacts/model", False), ("results/train.json", True)])
def test_other_models_make_a_new_version_and_other_metrics_do_not(
    workspace: Workspace, path: str, *, same: bool
) -> None:
    params = workspace.params()
    other = {**STAGES, "train": {**STAGES["train"], "outs": {**STAGES["train"]["outs"], path: "4"}}}
    assert (identity(other, params) == identity(STAGES, params)) is same


def test_settings_of_every_source_are_written_without_a_warning(workspace: Workspace) -> None:
    values = workspace.params().model_dump(mode="json", by_alias=True)
    grid, columns = values["prepare"]["grid"], {"days": "d", "strike": "k", "forward": "f", "iv": "v"}
    sources = (
        values["prepare"],
        {"source": "quotes", "grid": grid, "quotes": {"path": "a.csv", "date": "2023-02-15", "columns": columns}},
        {"source": "array", "seed": 1, "array": {"path": "a.npy"}},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for prepare in sources:
            read = Params.model_validate({**values, "prepare": prepare})
            written = read.model_dump(mode="json", by_alias=True)
            assert Params.model_validate(written) == read


@pytest.mark.parametrize(
    ("champion", "compared"),
    [
        (("A", "B", "gone"), {"A": 3, "B": 2}),
        (("A",), {"A": 3}),  # B is new
        (("other",), {}),
        ((), {"": 6}),  # of data that told no markets apart
    ],
)
def test_a_version_meets_the_champion_on_each_market_that_both_know(
    champion: tuple[str, ...], compared: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "compare", lambda _challenger, _champion, quoted, _truth: len(quoted))
    grid, vols = Grid([0.1, 0.5], [-0.1, 0.1], "log_moneyness"), np.zeros((6, 2, 2), np.float32)
    held_out = HeldOut(vols, vols, np.array([0, 1, 0, 1, 0, 2]), ("A", "B", "C"))
    versions = [SimpleNamespace(grid=grid, markets=markets) for markets in (("A", "B", "C"), champion)]
    assert register.compare(*versions, held_out) == compared


def test_a_champion_that_never_stays_ends_the_comparisons(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody promotes another version during each of them; the error says what is left and how to go on."""
    promoted: list[Version] = []
    compared: list[Any] = []

    def newest(_: str) -> Version:
        promoted.append(Version(str(len(promoted) + 2), "run", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), {CONTENT: "b"}))
        return promoted[-1]

    models = SimpleNamespace(get=newest, load=lambda _: None)
    version = Version("1", "run", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), {CONTENT: "a"})
    monkeypatch.setattr(register, "judge_surfaces", lambda *given: compared.append(given) or ([], {}))
    with pytest.raises(
        StageError, match=r"version 1 is registered, but not judged: .* each of 5 .* `dvc repro` judges"
    ):
        register.decide(models, version, None, None, {}, None, workspace.params().register_)
    assert len(compared) == 5
