"""A real Triton on loopback that serves the repository of `volvae export-triton`, on the CPU.

The package nvidia-pytriton carries the server with its backend of Python alone; `triton_backend.py` runs the graphs in
it. `make triton` installs both into an environment of their own, as that backend knows numpy below 2 alone.
"""

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.started import end, wait
from pipeline.errors import InputError

ENVIRONMENT = Path(sys.prefix, "triton")
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_PACKAGES = ENVIRONMENT / f"lib/python{_PYTHON}/site-packages"


class Ports(NamedTuple):
    """Where a server listens on loopback."""

    http: int
    grpc: int


@contextmanager
def serving(repository: Path) -> Iterator[Ports]:
    """Run Triton on a folder of models until the block ends.

    Raises:
        InputError: Triton is not installed.
        StageError: it does not start; the message is the end of its log.
    """
    if not _PACKAGES.exists():
        raise InputError(f"{ENVIRONMENT} has no Triton; `make triton` installs it")
    ports = Ports(*_free_ports(2))
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("w+b") as log:
        command = [str(_PACKAGES / "pytriton/tritonserver/bin/tritonserver"), f"--model-repository={repository}",
                   f"--backend-directory={_backends(Path(folder))}", "--allow-metrics=false", "--exit-timeout-secs=1",
                   f"--http-port={ports.http}", f"--grpc-port={ports.grpc}",
                   "--http-address=127.0.0.1", "--grpc-address=127.0.0.1"]  # fmt: skip
        process = subprocess.Popen(command, env=_environment(), stdout=log, stderr=log, start_new_session=True)
        try:
            wait(process, f"http://127.0.0.1:{ports.http}/v2/health/ready", Path(log.name))
            yield ports
        finally:
            end(process)


def _backends(folder: Path) -> Path:
    """A folder of backends: that of Python with its program for this version, and ours of onnxruntime."""
    source, found = _PACKAGES / "pytriton/tritonserver", folder / "backends"
    shutil.copytree(source / "backends", found)
    stub = shutil.copy(source / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub", found / "python")
    Path(stub).chmod(0o755)
    (found / "onnxruntime").mkdir()
    shutil.copy(Path(__file__).with_name("triton_backend.py"), found / "onnxruntime/model.py")
    return found


def _environment() -> dict[str, str]:
    """Variables with which Triton finds its libraries, and its backend the Python of its own environment."""
    libraries = f"{_PACKAGES / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
    path = f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "LD_LIBRARY_PATH": libraries, "PATH": path}


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [listener.getsockname()[1] for listener in listeners]
