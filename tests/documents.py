"""The documents that people read, and the code in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "deploy/*.md", "deploy/demo/*.md", "docs/**/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
)


def blocks(page: Path, language: str) -> list[str]:
    """The code of a language on a page, from top to bottom."""
    text = page.read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[tuple[str, str]]:
    """The commands that a page shows behind a prompt, each with what it is said to print."""
    found: list[tuple[str, str]] = []
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            found.append((command.strip(), printed))
    return found
