"""Programs of a project in forks of this process, which has imported what they would: a start takes them seconds.

A fork differs from a start in its imports of other packages alone. Its process, group, signals, streams, environment
and folder are those of the start, the project's own code is imported anew, and it ends as Python does. For
that, ``preexec_fn`` of subprocess, which is called between fork and start, does the work and never returns.
"""

import atexit
import functools
import gc
import importlib
import logging
import os
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.forks import import_from, look_away

_QUIET = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)  # as Python starts
_GRAPHS = "VOLVAE_TEST_GRAPHS"


def run(
    command: Sequence[str], environment: Mapping[str, str], *, code: Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as ``start`` does; its output is kept as text."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with start(command, environment, code=code, **streams, **options) as process:
        stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def start(
    command: Sequence[str], environment: Mapping[str, str], *, code: Path | None = None, **options: Any
) -> subprocess.Popen[Any]:
    """Start a program in a fork.

    Args:
        command: ``dvc``, ``volvae`` or ``python -m`` with arguments. Stages that DVC starts are forks too.
        environment: of the program.
        code: folder of the packages that it imports, and of tests/offline; by default those of this process.
        options: of ``subprocess.Popen``.
    """
    program, *arguments = command
    works = {"dvc": _dvc, "volvae": _volvae, "python": _python}
    _import_others(flow="flow" in arguments)
    work = partial(_become, partial(works[program], arguments), dict(environment), code)
    return subprocess.Popen(command, env=environment, preexec_fn=work, **options)  # noqa: PLW1509


@functools.cache
def _import_others(*, flow: bool) -> None:
    """Import what programs do, so that forks need not."""
    for name in ("dvc.cli.parser", "mlflow.onnx", "torch._dynamo", *(["pipeline.flow"] if flow else [])):
        importlib.import_module(name)
    for stage in ("prepare", "train", "evaluate", "export", "register"):
        importlib.import_module(f"pipeline.{stage}")


def _become(work: Callable[[], object], environment: Mapping[str, str], code: Path | None) -> None:
    """Do the work of a program with this environment, and end."""
    status: object = 1
    try:
        _forget_tests()
        os.environ.clear()
        os.environ.update(environment)
        if code is not None:
            import_from(code)
            _cut_network(code)
        status = work()
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - as Python prints it
        traceback.print_exc()
    _end(int(bool(status)) if isinstance(status, str | None) else int(status))


def _forget_tests() -> None:
    """Leave streams, handlers and settings of the tests, as a start would."""
    look_away()
    atexit._clear()
    nothing = os.open(os.devnull, os.O_RDWR)
    for path in [*Path("/proc/self/fd").iterdir()]:  # the pipe by whose end subprocess knows of the start, among them
        if int(path.name) > 2:
            os.dup2(nothing, int(path.name))
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, errors="backslashreplace")
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    warnings.resetwarnings()
    warnings._showwarnmsg_impl = _print_warning
    for category in _QUIET:
        warnings.simplefilter("ignore", category)
    logging.getLogger().handlers.clear()
    gc.freeze()
    gc.enable()


def _print_warning(message: warnings.WarningMessage) -> None:
    sys.stderr.write(warnings._formatwarnmsg(message))


def _cut_network(code: Path) -> None:
    """As Python does at a start with tests/offline on its path; graphs that were exported before are read already."""
    kept = os.environ.pop(_GRAPHS, None)
    runpy.run_path(str(code / "tests/offline/sitecustomize.py"))
    if kept is not None:
        os.environ[_GRAPHS] = kept


def _end(status: int) -> None:
    """End as Python does, but for what was there before the fork."""
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _dvc(arguments: Sequence[str]) -> object:
    from dvc import cli, logger  # noqa: PLC0415 - not while tests are collected
    from dvc.stage import run  # noqa: PLC0415

    for name in ("dvc", "dvc_objects", "dvc_data"):
        logging.getLogger(name).handlers.clear()  # which write to streams of the tests
    logger.setup()
    run.subprocess = SimpleNamespace(Popen=_start_stage)
    return cli.main(list(arguments))


def _start_stage(words: Sequence[str], /, *, env: Mapping[str, str], **others: Any) -> subprocess.Popen[bytes]:
    """The command that DVC gives to a shell; in a fork where it is Python's."""
    command = shlex.split(words[-1])
    sys.stdout.flush()
    if command[:2] == ["python", "-m"]:
        others["preexec_fn"] = partial(_become, partial(_python, command[1:]), dict(env), None)
    return subprocess.Popen(words, env=env, **others)


def _python(arguments: Sequence[str]) -> object:
    """``python -m``."""
    _, module, *others = arguments
    sys.argv = [module, *others]
    for name in (module, f"{module}.__main__"):  # one that this process has imported, of which Python would warn
        if not hasattr(sys.modules.get(name), "__path__"):
            sys.modules.pop(name, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _volvae(arguments: Sequence[str]) -> object:
    if "flow" in arguments:
        importlib.import_module("pipeline.flow")  # sets some of Prefect's settings
        importlib.import_module("prefect.context").refresh_global_settings_context()
        importlib.import_module("prefect.logging.configuration").setup_logging(incremental=False)
    importlib.import_module("pipeline.cli.main").main(list(arguments), prog_name="volvae")
    return 0
