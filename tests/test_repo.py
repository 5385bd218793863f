"""The repository holds itself to its own rules."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath

import grimp
import pytest
from ruamel.yaml import YAML

from pipeline import telemetry
from pipeline.cli.main import main as cli
from pipeline.files.stage_code import code_files
from pipeline.settings.params import read_params
from pipeline.settings.prepare import ArrayPrepare, HestonPrepare, QuotesPrepare
from pipeline.sources import own_file
from pipeline.stages import STAGES
from tests.workspace import Workspace
from tools.stage_deps import with_code

CODE = ("vae/", "pipeline/", "deploy/")


def read(path: Path) -> dict:
    return YAML(typ="safe").load(path)


def test_one_word_names_a_stage_everywhere(root: Path) -> None:
    stages = read(root / "dvc.yaml")["stages"]
    assert tuple(stages) == (own_file.STAGE, *STAGES)
    del stages[own_file.STAGE]  # a record that DVC watches, without settings
    assert tuple(read(root / "params.yaml")) == (*STAGES, "retrain")  # of schedules, no stage
    for name, stage in stages.items():
        assert (root / f"pipeline/{name}.py").is_file()
        assert stage["cmd"].startswith(f"python -m pipeline {name} ")


def test_params_of_a_stage_name_all_settings_that_can_change_its_result(root: Path) -> None:
    """A block by its name, or all of its keys but for those that cannot: whichever source the data has."""
    settings = read_params(root / "params.yaml")
    stages = read(root / "dvc.yaml")["stages"]
    for name, stage in ((name, stages[name]) for name in STAGES):
        block = settings.register_ if name == "register" else getattr(settings, name)
        counted = [f"{name}.{key}" for key in type(block).model_fields if key not in block.result_free]
        assert sorted(stage["params"]) == (sorted(counted) if block.result_free else [name]), name
    sources = (HestonPrepare, QuotesPrepare, ArrayPrepare)
    assert len({(frozenset(source.model_fields), source.result_free) for source in sources}) == 1


def test_deps_of_a_stage_name_all_code_that_it_imports(root: Path) -> None:
    """An edit can never leave a stale artifact; and no stage runs again for code that it does not use."""
    graph = grimp.build_graph("vae", "pipeline", cache_dir=None)
    stages = read(root / "dvc.yaml")["stages"]
    for name, stage in ((name, stages[name]) for name in STAGES):
        module = f"pipeline.{name}"
        imported = {module, *graph.find_upstream_modules(module)} - {"vae", "pipeline"}
        expected = {f"{m.replace('.', '/')}.py" for m in imported}
        assert {d for d in stage["deps"] if d.startswith(CODE)} == expected, name


@pytest.mark.slow
def test_checkpoints_depend_on_the_code_in_dvc_yaml(root: Path) -> None:
    """The helper reads it off the imports by itself, as an installed package has no dvc.yaml."""
    stages = read(root / "dvc.yaml")["stages"]
    for name, stage in ((name, stages[name]) for name in STAGES):
        assert code_files(name) == tuple(sorted(d for d in stage["deps"] if d.endswith(".py"))), name


@pytest.mark.slow
def test_make_deps_writes_what_dvc_yaml_has(root: Path) -> None:
    lines = (root / "dvc.yaml").read_text("utf-8").split("\n")
    assert with_code(lines) == lines
    code = next(number for number, line in enumerate(lines) if line.endswith("pipeline/prepare.py"))
    assert with_code([*lines[:code], "      - vae/gone.py", *lines[code + 3 :]]) == lines


def test_paths_of_a_command_are_its_deps_and_outputs(root: Path) -> None:
    """Beside the record of the user's data, which prepare finds through params.yaml."""
    stages = read(root / "dvc.yaml")["stages"]
    for name, stage in ((name, stages[name]) for name in STAGES):
        used = {word for word in stage["cmd"].split()[4:] if not word.startswith("--")}
        entries = [*stage["deps"], *stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
        declared = {next(iter(e)) if isinstance(e, dict) else e for e in entries}
        assert used == {path for path in declared - {str(own_file.RECORD)} if not path.startswith(CODE)}, name


def test_files_that_the_readme_names_exist(root: Path) -> None:
    text = (root / "README.md").read_text("utf-8")
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (root / link).exists(), link
    (tree,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    files = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout
    there = {f"/{each}" for file in map(PurePosixPath, files.splitlines()) for each in (file, *file.parents)}
    for path in re.findall(r"^\s*([\w./]+(?:/|\.\w+))", tree, re.MULTILINE):
        assert any(each.endswith(f"/{path.removesuffix('/')}") for each in there), path


@pytest.mark.parametrize(
    ("page", "entry"),
    [("README.md", "\n  {}/ "), ("CONTRIBUTING.md", "| `vae/{}` |"), ("vae/__init__.py", "- ``vae.{}``:")],
)
def test_no_package_of_the_numerics_is_left_out(page: str, entry: str, root: Path) -> None:
    """Of the places that tell a newcomer where things are."""
    text = (root / page).read_text("utf-8")
    packages = {path.parent.name for path in (root / "vae").glob("*/__init__.py")}
    assert {package for package in packages if entry.format(package) not in text} == set()


def test_extras_keep_the_runtime_light_and_the_two_onnxruntimes_apart(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    base = {re.split(r"[>=<\[]", d)[0] for d in project["dependencies"]}
    assert base == {"click", "numpy", "pyarrow"}
    extras = project["optional-dependencies"]
    assert [d for d in extras["cpu"] if "gpu" in d] == [] == [d for d in extras["gpu"] if "gpu" not in d]
    assert not [d for d in (*extras["pipeline"], *extras["schedule"]) if d.startswith("onnxruntime")]


def test_lock_pins_every_declared_dependency(root: Path) -> None:
    lock = dict(line.split("==") for line in (root / "requirements.lock").read_text().split())
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    pinned = {name.lower().replace("_", "-") for name in lock}
    for dependency in declared:
        assert re.split(r"[>=<\[]", dependency)[0].lower().replace("_", "-") in pinned, dependency
    assert lock["torch"] == "2.13.0"
    assert lock["onnxruntime"] == lock["onnxruntime-gpu"]


def test_environment_file_has_every_telemetry_switch(root: Path) -> None:
    lines = (root / "deploy/telemetry.env").read_text().splitlines()
    assert dict(line.split("=") for line in lines if line and not line.startswith("#")) == telemetry.OFF


def test_example_application_runs_on_a_bundle(root: Path, finished: Workspace) -> None:
    command = [sys.executable, str(root / "examples/scenarios.py"), str(finished.folder / "artifacts/bundle")]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert len(result.stdout.splitlines()) == 1 + 3


def test_console_script_is_the_cli() -> None:
    (script,) = entry_points(group="console_scripts", name="volvae")
    assert script.load() is cli


@pytest.mark.parametrize("package", ["vae", "pipeline"])
def test_importing_a_package_loads_nothing(package: str) -> None:
    """The packages' own files hold a docstring only, so that one module never loads the rest."""
    program = f"import {package}, sys; print([m for m in sys.modules if m.startswith(({package!r} + '.', 'torch'))])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_docstrings_say_what_a_thing_is(root: Path) -> None:
    """A sentence that begins with "What" names no subject."""
    files = subprocess.run(["git", "ls-files", "*.py"], cwd=root, capture_output=True, text=True, check=True).stdout
    found = [
        path for path in files.split() if re.search(r'^\s*"""What ', (root / path).read_text("utf-8"), re.MULTILINE)
    ]
    assert found == []
