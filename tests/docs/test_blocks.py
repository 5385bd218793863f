"""All that the documents show works: Python is run, commands are run or read by the programs that they name."""

import importlib.util
import re
import shlex
import subprocess
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from pipeline.cli.main import main as cli
from tests.deploy.serving import serving
from tests.documents import PAGES, ROOT, blocks, commands
from tools.params_schema import resolved, schema

DEMO = ROOT / "deploy/demo"
TUTORIALS = [page for page in PAGES if page.parent.name == "tutorials"]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# --- Python ---


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of the project as a reader has it after `make demo`, with that model in the place of a trained one."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/bundle").symlink_to(DEMO / "bundle")
    (tmp_path / "demo").symlink_to(DEMO)
    (tmp_path / "bundle").symlink_to(DEMO / "bundle")  # as a model card calls the one that was fetched
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


ELSEWHERE = {  # why a block is not run with the others, and where it is
    "VectorModel": "tests/pipeline/test_vectors.py",
    "127.0.0.1:8000": "test_clients_of_a_server_get_an_answer",
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_of_a_page_runs_from_top_to_bottom(page: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        if not any(word in block for word in ELSEWHERE):
            exec(compile(block, name_of(page), "exec"), names)


@pytest.mark.slow
def test_clients_of_a_server_get_an_answer(tmp_path: Path) -> None:
    names: dict[str, object] = {}
    with serving(DEMO / "bundle", tmp_path) as server:
        for block in blocks(ROOT / "docs/serving.md", "python"):
            exec(compile(block.replace("127.0.0.1:8000", server.address), "serving.md", "exec"), names)
        names["client"].close()
    assert "std" in names["surface"].column_names


# --- commands that are run ---


NOT_RUN = {
    "volvae report --open": "opens a browser",
    "volvae init quotes.csv": "needs a history of many dates: tests/pipeline/cli/test_own_data.py",
    "volvae complete quotes.csv --date 2019-03-01 -o surface.csv": "the same",
}


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=name_of)
def test_commands_of_a_tutorial_print_what_it_shows(page: Path, folder: Path) -> None:
    text = page.read_text("utf-8")
    for name, content in re.findall(r"`(\w+\.csv)` is\n\n```text\n(.*?)```", text, re.DOTALL):
        (folder / name).write_text(content)
    for command, printed in commands(page):
        if command.startswith("volvae ") and command not in NOT_RUN:
            result = CliRunner().invoke(cli, shlex.split(command)[1:], catch_exceptions=False)
            assert result.exit_code == 0, f"{command}: {result.output}"
            for line in printed.splitlines():
                assert line in result.output.splitlines(), command


def test_commands_that_are_not_run_are_in_a_tutorial() -> None:
    assert set(NOT_RUN) <= {command for page in TUTORIALS for command, _ in commands(page)}


# --- commands that are read ---


def parse(command: click.Command, words: list[str]) -> None:
    """Fail where click would, but for files that are not there."""
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(click.Context(command), name)  # which knows aliases too
        assert found is not None, name
        command = found
    try:
        command.make_context(command.name, words)
    except click.BadParameter as error:
        if "does not exist" not in error.message:
            raise


def volvae(words: list[str]) -> None:
    parse(cli, words)


def make(words: list[str]) -> None:
    for word in words:
        variable, equals, _ = word.partition("=")
        if equals:
            assert f"$({variable})" in MAKEFILE or f"$(if $({variable})" in MAKEFILE, word
        else:
            target = word.replace(".venv/.installed", "$(INSTALLED)")
            assert re.search(rf"^{re.escape(target)}:", MAKEFILE, re.MULTILINE), word


def dvc(words: list[str]) -> None:
    from dvc.cli import DvcParserError, parse_args  # noqa: PLC0415  slow to import

    try:
        parse_args(words)
    except DvcParserError:
        pytest.fail(f"dvc {shlex.join(words)}")


def mlflow(words: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's, of its own type hints
        parse(importlib.import_module("mlflow.cli").cli, words)


def model_signing(words: list[str]) -> None:
    parse(importlib.import_module("model_signing._cli").main, words)


def python(words: list[str]) -> None:
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]) is not None, words[1]
        place = ROOT / words[1].replace(".", "/")
        files = [place.with_suffix(".py")] if place.with_suffix(".py").is_file() else place.glob("*.py")
        code = "".join(path.read_text("utf-8") for path in files)
        for option in (word for word in words[2:] if word.startswith("--")):
            assert f'"{option}"' in code, option
    else:
        assert (ROOT / words[0]).is_file(), words[0]


def pytest_(words: list[str]) -> None:
    path, *options = words
    text = (ROOT / path).read_text("utf-8")
    if options[:1] == ["-k"]:
        assert re.search(rf"def test_\w*{options[1]}", text), options[1]


def pip(words: list[str]) -> None:
    for extras in re.findall(r"(?:\.|volvae)\[(.*?)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"]), extras


READERS: dict[str, Callable[[list[str]], None]] = {
    "volvae": volvae,
    "make": make,
    "dvc": dvc,
    "mlflow": mlflow,
    "model_signing": model_signing,
    "python": python,
    "pytest": pytest_,
    "pip": pip,
}
# Of the shell and of others; compose, kubectl and prefect are read by tests/deploy/test_manifests.py.
FOREIGN = {
    *(".", "cd", "export", "(umask", "git", "docker", "kubectl", "prefect", "aws", "curl", "sqlite3", "rsync"),
    *("pre-commit", "openssl", "apt-get", "dockerd"),
}


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_commands_of_a_page_are_known_to_their_programs(page: Path) -> None:
    for command, _ in commands(page):
        for part in [command] if command.startswith("(") else command.split(" && "):
            program, *words = shlex.split(part, comments=True) if program_of(part) in READERS else [program_of(part)]
            assert program in READERS or program in FOREIGN, command
            try:
                READERS.get(program, lambda _: None)(words)
            except click.ClickException as error:
                pytest.fail(f"{command}: {error}")


@pytest.mark.parametrize(
    "command",
    ["volvae sampel", "volvae sample --sede 7 -o a.csv", "make rum", "make bench PART=risk", "dvc exp rum",
     "python -m kaos", "python -m chaos --fautl SIGKILL", "pytest tests/test_repo.py -k nothing_like_it",
     "pip install '.[gpus]'", "pip install 'volvae[sing]'", "model_signing verify key bundle --public-key a.pub"],
)  # fmt: skip
def test_a_wrong_command_is_found(command: str) -> None:
    program, *words = shlex.split(command)
    with pytest.raises((AssertionError, click.ClickException, pytest.fail.Exception)):
        READERS[program](words)


def program_of(command: str) -> str:
    return command.split(maxsplit=1)[0]


def test_every_console_block_is_shell() -> None:
    script = "\n".join(command for page in PAGES for command, _ in commands(page))
    found = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=name_of)
def test_settings_that_a_page_shows_have_the_keys_that_there_are(page: Path) -> None:
    root = schema((ROOT / "params.yaml").read_text("utf-8"))
    for block in blocks(page, "yaml"):
        for stage, values in YAML(typ="safe").load(block).items():
            if stage in root["properties"]:
                assert_known(values, root["properties"][stage], root, stage)


def assert_known(values: object, part: dict, root: dict, path: str) -> None:
    found = [each for each in resolved(part, root) if "properties" in each]
    if isinstance(values, dict) and found:
        keys = {key: value for each in found for key, value in each["properties"].items()}
        for key, value in values.items():
            assert key in keys, f"{path}.{key}"
            assert_known(value, keys[key], root, f"{path}.{key}")
