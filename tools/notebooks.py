"""make deps: write the tutorials as notebooks beside their pages, NAME.ipynb of NAME.md, without outputs.

Python and commands of ``volvae`` become cells that run, files that a page shows are written by a cell, and the rest is
text. Reference: https://nbformat.readthedocs.io/en/latest/format_description.html.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

TUTORIALS = Path("docs/tutorials")
ROOT_CELL = """\
import os
from pathlib import Path

here = Path.cwd()
os.chdir(next(folder for folder in (here, *here.parents) if (folder / "params.yaml").exists()))  # the project's root
"""
_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```\n?", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"`([\w.]+)` is\s*$")  # the words before a block that is a file


def notebook(page: str) -> str:
    """The notebook of a page in Markdown; the same page gives the same text."""
    title, *rest = cells(page)
    made = [_cell(number, *cell) for number, cell in enumerate([title, ("code", ROOT_CELL), *rest])]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def cells(page: str) -> Iterator[tuple[str, str]]:
    """The cells of a page from top to bottom: kind, ``code`` or ``markdown``, and text."""
    text, end = "", 0
    for block in _BLOCK.finditer(page):
        text += page[end : block.start()]
        end = block.end()
        code = _runs(block["language"], block["code"], text)
        if code is None:
            text += block.group()
            continue
        yield from _text(text)
        yield "code", code
        text = ""
    yield from _text(text + page[end:])


def _text(text: str) -> Iterator[tuple[str, str]]:
    """A cell for each section of a text, so that the title is the first."""
    for part in re.split(r"^(?=#+ )", text, flags=re.MULTILINE):
        if part.strip():
            yield "markdown", part.strip() + "\n"


def _runs(language: str, code: str, before: str) -> str | None:
    """The code of a cell; None for a block that is only to be read."""
    if language == "python":
        return code
    if language == "text" and (name := _FILE.search(before)):
        return f"%%writefile {name[1]}\n{code}"
    commands = [line.removeprefix("$ ") for line in code.splitlines() if line.startswith("$ ")]
    if language == "console" and commands and all(command.startswith("volvae ") for command in commands):
        return "".join(f"!{command}\n" for command in commands)
    return None


def _cell(number: int, kind: str, text: str) -> dict[str, object]:
    cell: dict[str, object] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return cell | {"source": text.removesuffix("\n").splitlines(keepends=True)}


def main() -> None:
    """Write all of them."""
    for page in sorted(TUTORIALS.glob("*.md")):
        page.with_suffix(".ipynb").write_text(notebook(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
