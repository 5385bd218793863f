"""make deps: write the code files of each stage into its ``deps`` in dvc.yaml; all other lines stay as they are."""

import re
from pathlib import Path

from pipeline.files.stage_code import code_files

_DVC = Path("dvc.yaml")
_STAGE = re.compile(r"  (\w+):")
_CODE = re.compile(r"      - (?:pipeline|vae)/\S+\.py")


def with_code(lines: list[str]) -> list[str]:
    """The lines of dvc.yaml with the code of each stage behind its data; the stage's own file comes first."""
    found: list[str] = []
    stage = ""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        stage = match[1] if (match := _STAGE.fullmatch(line)) else stage
        in_deps = _CODE.fullmatch(line) is not None
        if not in_deps:
            found.append(line)
        if in_deps and not _CODE.fullmatch(following):
            own = f"pipeline/{stage}.py"
            found += [f"      - {name}" for name in (own, *(name for name in code_files(stage) if name != own))]
    return found


if __name__ == "__main__":
    _DVC.write_text("\n".join(with_code(_DVC.read_text("utf-8").split("\n"))), "utf-8")
