"""Make examples/dated: a small model of simulated days with a law of motion, for the gallery's scenarios and risk.

``python tools/dated.py FOLDER`` runs the stages in a folder and writes the bundle with the settings it was made by. It
takes a minute on two cores.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.files.atomic import copy_folder
from tools.demo import ROOT, STAGES, write_settings

DATED = ROOT / "examples/dated"

SETTINGS: dict[str, Any] = {  # in place of those of the project
    "prepare.source": "heston_paths",
    "prepare.surfaces": {"train": 500, "validation": 60, "test": 60},  # days, one after the other
    "prepare.heston_paths": {"v0": 0.04, "kappa": 4.0, "theta": 0.04, "vol_of_vol": 0.3, "rho": -0.7},
    "prepare.grid.tenors_days": [7, 30, 60, 91, 182, 365],
    "prepare.grid.nodes": {"start": -0.4, "stop": 0.3, "count": 8},
    "train.model.latents": 2,
    "train.model.transform": "log",
    "train.model.basis": 6,
    "train.model.width": 16,
    "train.model.residual_factors": 3,
    "train.scaffold_latents": 0,
    "train.epochs": 100,
    "train.batch": 64,
    "train.prior.components": [1],
    "train.prior.flow_layers": 0,
    "train.prior.surfaces": 500,
    "train.dynamics": {"underlying": "spot"},
}


def main(work: Path) -> None:
    """Run the stages in ``work`` and write examples/dated."""
    work.mkdir(parents=True, exist_ok=True)
    write_settings(work / "params.yaml", SETTINGS)
    for stage, paths in STAGES.items():
        subprocess.run([sys.executable, "-m", "pipeline", stage, *paths.split()], cwd=work, check=True)
    copy_folder(work / "bundle", DATED)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
