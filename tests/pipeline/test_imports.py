"""Commands that only read a user's file never load torch, whose import takes longer than most of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.workspace import Workspace

READS = """
import sys
from pathlib import Path

def run(name, command, *arguments):
    try:
        command(*arguments)
    except SystemExit as end:
        assert not end.code, (name, end.code)
    assert "torch" not in sys.modules, name

from pipeline import __main__ as stages
from pipeline.cli.main import main as volvae
from pipeline.settings.params import read_params
from pipeline.sources import own_file

stage = ["prepare", "--surfaces", "data/surfaces", "--metrics", "results/prepare.json"]
run("prepare", lambda: sys.exit(stages.main(stage)))
run("source", lambda: own_file.write_record(read_params().prepare, Path("data/source.json")))
run("check", volvae, ["check"])
if sys.argv[1] == "quotes":
    run("inspect", volvae, ["inspect", "quotes.csv"])
    run("init", volvae, ["init", "quotes.csv", "--force"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("source", ["quotes", "array"])
def test_a_users_own_data_are_read_without_torch(workspace: Workspace, source: str) -> None:
    workspace.set(prepare__source=source)
    if source == "quotes":
        rows = ["date,days,k,iv", *(f"2024-01-{d:02},{t},{k},{0.2 + k * k}" for d in range(1, 11) for t in (91, 365)
                                   for k in (-0.2, -0.1, 0.0, 0.1, 0.2))]  # fmt: skip
        Path("quotes.csv").write_text("\n".join(rows) + "\n")
        columns = {"date": "date", "days": "days", "log_moneyness": "k", "iv": "iv"}
        grid = {"convention": "log_moneyness", "tenors_days": [91, 365], "nodes": [-0.2, -0.1, 0.0, 0.1, 0.2]}
        workspace.set(prepare__grid=grid, prepare__quotes={"path": "quotes.csv", "columns": columns})
        workspace.set(train__model__basis=10)
    else:
        np.save("vectors.npy", np.random.default_rng(0).random((30, 3)))
        workspace.set(prepare__array={"path": "vectors.npy"})
    ended = subprocess.run([sys.executable, "-c", READS, source], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


TOLD = """
import contextlib, sys
from pipeline import __main__ as stages

for stage in stages.STAGES:
    with contextlib.suppress(SystemExit):
        stages.main([stage, "--help"])
paths = ["--surfaces", "data", "--model", "model", "--metrics", "train.json", "--curve", "curve.csv"]
assert stages.main(["train", *paths]) == 2
print([name for name in ("torch", "mlflow", "plotly", "pandas") if name in sys.modules])
"""


def test_help_and_a_wrong_key_need_no_import_of_a_stage(workspace: Workspace) -> None:
    workspace.set(train__model__latnets=5)
    ended = subprocess.run([sys.executable, "-c", TOLD], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
    assert "--evaluate-metrics EVALUATE_METRICS" in ended.stdout
    assert "train.model.latnets is not a key; did you mean latents?" in ended.stderr
