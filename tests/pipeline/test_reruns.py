"""Which stages DVC reruns after a change: dvc.yaml, params.yaml and code as they are, with stand-ins for the work."""

import contextlib
import shutil
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.runs.trigger import changes
from pipeline.stages import STAGES
from tests.workspace import Workspace

pytestmark = pytest.mark.slow

STAND_IN = """
import pathlib, sys, uuid
for path in map(pathlib.Path, sys.argv[1:]):
    file = path if path.suffix else path / "file"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(uuid.uuid4().hex)
"""  # another content each time, so that what reads it runs too


@pytest.fixture(scope="module")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC project in which every stage ran."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "stand_in.py").write_text(STAND_IN)
    shutil.copy(root / "params.yaml", folder)
    pipeline = YAML(typ="safe").load(root / "dvc.yaml")
    pipeline["stages"]["source"]["cmd"] = (
        f"PYTHONPATH={root} {sys.executable} -P -m pipeline.sources.own_file data/source.json"
    )
    for stage in (pipeline["stages"][name] for name in STAGES):
        entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, ())]
        paths = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
        stage["cmd"] = f"{sys.executable} stand_in.py {' '.join(paths)}"
        for code in (dep for dep in stage["deps"] if (root / dep).is_file() and not dep.startswith("results/")):
            (folder / code).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / code, folder / code)
    YAML().dump(pipeline, folder / "dvc.yaml")
    Repo.init(str(folder), no_scm=True).close()
    assert rerun(folder) == list(STAGES)
    assert rerun(folder) == []
    return folder


def rerun(folder: Path) -> list[str]:
    """The stages that `dvc repro` runs, in the order of the project."""
    with contextlib.chdir(folder), Repo() as repo:
        ran = {stage.name for stage in repo.reproduce()}
    return [name for name in STAGES if name in ran]


@pytest.mark.parametrize(
    ("changed", "stages"),
    [
        (
            {
                "retrain__age_days": 3.0,
                "prepare__workers": 3,
                "prepare__engine": "dask",
                "prepare__address": "tcp://scheduler:8786",
                "train__checkpoint_epochs": 3,
            },
            [],
        ),
        ({"register__gate__decode_ms": 3.0}, ["register"]),
        ({"evaluate__prior_samples": 300}, ["evaluate", "register"]),
        ({"train__weight_decay": 0.5}, ["train", "evaluate", "export", "register"]),
    ],
)
def test_a_change_of_settings_reruns_what_it_can_change(
    project: Path, changed: dict[str, object], stages: list[str]
) -> None:
    Workspace(project).set(**changed)
    Workspace(project).params()  # they are valid
    assert rerun(project) == stages


def test_a_change_of_code_reruns_what_imports_it(project: Path) -> None:
    """Of other files DVC says which stages see them; those that read these stages' outputs would run too, see above."""
    seen = {
        "pipeline/registry/gate.py": ["register"],
        "pipeline/settings/register.py": ["register"],
        "pipeline/settings/evaluate.py": ["evaluate", "register"],
        "vae/training/soap.py": ["train"],
    }
    comment(project, "pipeline/register.py")
    assert rerun(project) == ["register"]
    comment(project, *seen)
    with contextlib.chdir(project), Repo() as repo:
        status = repo.status()
    changed = {stage: entry["changed deps"] for stage, (entry,) in status.items() if stage in STAGES}
    assert {file: [stage for stage in STAGES if file in changed.get(stage, ())] for file in seen} == seen
    assert {name for deps in changed.values() for name in deps} == seen.keys()


def comment(project: Path, *files: str) -> None:
    """Change code by a comment."""
    for file in files:
        with (project / file).open("a") as stream:
            stream.write("# a comment\n")


def test_data_of_the_user_counts_where_the_source_does(project: Path) -> None:
    """Keys that are null in the shipped params.yaml are watched as well, and so is the content of the file."""
    own = project / "quotes/own.csv"
    own.parent.mkdir()
    own.write_text("day,tenor,k,vol\n")
    columns = {"date": "day", "tenor_years": "tenor", "log_moneyness": "k", "iv": "vol"}
    Workspace(project).set(prepare__source="quotes", prepare__quotes={"path": "quotes/own.csv", "columns": columns})
    assert rerun(project)[0] == "prepare"
    assert rerun(project) == []
    own.write_text("day,tenor,k,vol\n2020-01-02,0.5,0.0,0.2\n")
    assert changes(project, Workspace(project).params().prepare) == {"prepare": ["quotes/own.csv"]}
    assert rerun(project) == list(STAGES)
    assert changes(project, Workspace(project).params().prepare) == {}
