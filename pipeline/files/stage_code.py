"""The code of a stage: the files of this project that its module imports, and their hash.

A checkpoint is resumed only by the code that wrote it. The list is read off the imports, and not from dvc.yaml, as a
worker of a Dask cluster has the installed packages alone; tests/test_repo.py holds it equal to the list in dvc.yaml.
"""

import hashlib
from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

_PACKAGES = ("pipeline", "vae")
_ROOT = Path(__file__).parents[2]  # the folder of the packages: a checkout, or site-packages


def code_files(stage: str) -> tuple[str, ...]:
    """Files of the modules that a stage imports, directly or not, sorted; relative to the folder of the packages.

    Packages' own ``__init__.py`` hold a docstring only and are left out.
    """
    finder = _FirstParty(path=[str(_ROOT)])
    finder.import_hook(f"pipeline.{stage}")
    files = (Path(vars(module)["__file__"]) for module in finder.modules.values())
    return tuple(sorted(file.relative_to(_ROOT).as_posix() for file in files if file.name != "__init__.py"))


@cache
def code_sha256(stage: str) -> str:
    """Hash of names and content of these files, comments and line ends included.

    It is taken once a process, so that it stays that of the code that runs when a file changes later.
    """
    digest = hashlib.sha256()
    for name in code_files(stage):
        content = (_ROOT / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


class _FirstParty(ModuleFinder):
    """Follows imports inside the packages of this project alone."""

    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:  # noqa: ANN401  as the library has it
        if path is None and name not in _PACKAGES:
            raise ImportError(name)
        return super().find_module(name, path, parent)
