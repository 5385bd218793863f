"""Write deploy/locks: all packages of each image of deploy/Dockerfile, with hashes of their files for Linux on x86-64.

The versions are those of requirements.lock; what the lock does not have, such as the CUDA libraries, is resolved anew.

    python tools/image_locks.py
"""

import os
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path("deploy/locks")
PYTHON = "3.11"  # of the base image, in any of its releases
PLATFORM = "x86_64-manylinux_2_28"
# PyPI's torch for Linux is the CUDA build. Another folder or page with the wheels can be named in the environment.
TORCH_FOR_CPU = os.environ.get("TORCH_FOR_CPU", "https://download.pytorch.org/whl/cpu/torch/")

_SERVICES = ["deploy/requirements.txt"]
_PIPELINE = [
    "pyproject.toml",
    "--extra=pipeline",
    "--extra=schedule",
    "--extra=dask",
    "--extra=sign",
    "--extra=otel",
    *_SERVICES,
]
# A server of tables reads none, and follows an alias by MLflow's client alone.
_SERVER = [
    "pyproject.toml",
    "--extra=serve",
    "--extra=grpc",
    "--extra=otel",
    "--extra=verify",
    "deploy/requirements-server.txt",
    "--no-emit-package=pyarrow",
]
IMAGES = {
    "build": ["deploy/requirements-build.txt"],
    "services": _SERVICES,
    "pipeline-cpu": [*_PIPELINE, "--extra=cpu", f"--find-links={TORCH_FOR_CPU}"],
    "pipeline-gpu": [*_PIPELINE, "--extra=gpu"],
    "server-cpu": [*_SERVER, "--extra=cpu"],
    "server-gpu": [*_SERVER, "--extra=gpu"],
}


def resolved(arguments: list[str], lock: Path) -> list[dict[str, Any]]:
    """The packages of these requirements as `pylock.toml` has them, wheels for another system left out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pylock.toml"
        command = ["uv", "pip", "compile", "--quiet", "--no-config", "--format=pylock.toml", f"--output-file={path}",
                   f"--python-version={PYTHON}", f"--python-platform={PLATFORM}", f"--constraint={lock}"]  # fmt: skip
        subprocess.run([*command, *arguments], check=True)
        return tomllib.loads(path.read_text("utf-8"))["packages"]


def as_requirements(packages: list[dict[str, Any]], kind: str) -> str:
    """The packages that have wheels, or that have a source alone, as pip reads them: each with the hash of its file."""
    lines = []
    for package in packages:
        if ("wheels" in package) == (kind == "wheels"):
            files = package["wheels"] if kind == "wheels" else [package["sdist"]]
            hashes = "".join(f" \\\n    --hash=sha256:{file['hashes']['sha256']}" for file in files)
            lines.append(f"{package['name']}=={package['version']}{hashes}\n")
    return "".join(lines)


def main() -> None:
    """Write the file of each image, and ``sources.txt`` with the packages that are built first."""
    FOLDER.mkdir(exist_ok=True)
    sources = set()
    for image, arguments in IMAGES.items():
        packages = resolved(arguments, Path("requirements.lock"))
        (FOLDER / f"{image}.txt").write_text(as_requirements(packages, "wheels"), "utf-8")
        sources.add(as_requirements(packages, "sdist"))
        print(FOLDER / f"{image}.txt")
    (FOLDER / "sources.txt").write_text("".join(sorted(sources)), "utf-8")


if __name__ == "__main__":
    main()
