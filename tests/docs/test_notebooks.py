"""The tutorials as notebooks: written from their pages, whose code tests/docs/test_blocks.py runs."""

import json
import re
from pathlib import Path

import pytest

from tests.documents import ROOT, blocks, commands
from tools.notebooks import ROOT_CELL, cells, notebook

PAGES = sorted((ROOT / "docs/tutorials").glob("*.md"))


def code_of(page: Path) -> list[str]:
    """The cells that run, but for the first, which finds the project."""
    found = json.loads(page.with_suffix(".ipynb").read_text("utf-8"))
    first, *rest = ["".join(cell["source"]) for cell in found["cells"] if cell["cell_type"] == "code"]
    assert first + "\n" == ROOT_CELL
    return rest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_notebook_is_that_of_its_page(page: Path) -> None:
    kept = page.with_suffix(".ipynb").read_text("utf-8")
    assert kept == notebook(page.read_text("utf-8")), "`make deps` writes it"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_cells_are_the_blocks_that_are_run(page: Path) -> None:
    """All Python of the page, its files, and the commands of volvae that need nothing else: in order."""
    python, shell, files = [], [], []
    for code in code_of(page):
        if code.startswith("!"):
            shell += [line.removeprefix("!") for line in code.splitlines()]
        elif code.startswith("%%writefile "):
            files.append(code.removeprefix("%%writefile ").partition("\n"))
        else:
            python.append(code + "\n")
    assert python == blocks(page, "python")
    assert [name for name, _, _ in files] == re.findall(r"`(\w+\.csv)` is\n\n```text", page.read_text("utf-8"))
    assert {content + "\n" for _, _, content in files} <= set(blocks(page, "text"))
    shown = [command for command, _ in commands(page) if command.startswith("volvae ")]
    assert shell == shown[: len(shell)]
    assert len(shell) >= 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_notebook_is_of_the_format(page: Path) -> None:
    """Version 4.5: each cell has an id of its own, its source is lines, and outputs are none."""
    found = json.loads(page.with_suffix(".ipynb").read_text("utf-8"))
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in found["cells"]}) == len(found["cells"])
    for cell in found["cells"]:
        wanted = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            wanted |= {"execution_count", "outputs"}
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
        assert set(cell) == wanted
        assert all(line.endswith("\n") for line in cell["source"][:-1])


def test_what_cannot_run_stays_text() -> None:
    text = "# Title\n\nRun\n\n```console\n$ make run\n$ volvae check\n```\n\nand\n"
    assert list(cells(f"{text}\n```console\n$ volvae doctor\nfine\n```\n")) == [
        ("markdown", text),
        ("code", "!volvae doctor\n"),
    ]


def test_the_first_cell_finds_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "docs/tutorials")
    exec(ROOT_CELL, {})
    assert Path.cwd() == ROOT
