"""python -m pipeline STAGE --name PATH ...: one stage, as dvc.yaml calls it.

The paths of a stage are the keyword arguments of its ``main``; exit code 0, 1 (failed), 2 (bad usage or input) or 130
(interrupted).
"""

import argparse
import ast
import importlib
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline import openmp, telemetry, tracing

openmp.bound_threads()  # before the modules below import numpy

from pipeline.errors import InputError, StageError, shown, shown_message  # noqa: E402
from pipeline.files import formats  # noqa: E402
from pipeline.registry import cached, dvc_lock, git_state, lineage  # noqa: E402
from pipeline.settings.params import Params, read_params  # noqa: E402
from pipeline.settings.types import Block  # noqa: E402
from pipeline.stages import STAGES  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage that the command line names."""
    telemetry.switch_off()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chooser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__, add_help=False)
    chooser.add_argument("stage", choices=STAGES)
    stage = chooser.parse_args(arguments[:1]).stage
    paths = vars(_parser(stage).parse_args(arguments[1:]))
    try:
        params = read_params()  # before the stage is imported: torch takes seconds, which a wrong key need not wait for
        if "DVC_STAGE" in os.environ:  # else a person tries a stage on files of their own
            cached.check_inputs(stage, paths.values())
        run: Callable[..., None] = importlib.import_module(f"pipeline.{stage}").main
        with tracing.span(stage):
            start = time.monotonic()
            run(_settings(params, stage), **paths)
            _note(stage, paths["metrics"], lineage.Run(round(time.monotonic() - start, 1), _device()))
            if tracing.on():
                _trace(stage, paths)
    except InputError as error:
        print(f"{stage}: {shown_message(error)}", file=sys.stderr)
        return 2
    except StageError as error:
        print(f"{stage} failed: {shown_message(error)}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"{stage} failed: memory ran out: {error or 'it needs more than this machine has'}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        # of a file that no stage knows, such as a library's in the folder for temporary files
        print(f"{stage} failed: {shown(error.filename)}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{stage}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def _parser(stage: str) -> argparse.ArgumentParser:
    """The command line of a stage, read off the source of its ``main``, so that help needs none of its imports."""
    tree = ast.parse(Path(__file__).with_name(f"{stage}.py").read_text("utf-8"))
    (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    parser = argparse.ArgumentParser(prog=f"python -m pipeline {stage}", description=ast.get_docstring(main))
    for path in main.args.kwonlyargs:
        parser.add_argument(f"--{path.arg.replace('_', '-')}", type=Path, required=True)
    return parser


def _note(stage: str, metrics: Path, run: lineage.Run) -> None:
    """Note the run; the stage is complete without, and may have taken hours."""
    try:
        lineage.note_run(stage, metrics, run)
    except InputError as error:
        print(f"{stage}: how long it took is not kept: {shown_message(error)}", file=sys.stderr)


def _trace(stage: str, paths: Mapping[str, Path]) -> None:
    """Note what a stage worked on, and what came of it, in its span."""
    tracing.note(stage=stage, commit=git_state.read().commit)
    if "surfaces" in paths:
        tracing.note(data=dvc_lock.md5(paths["surfaces"]))
    if stage == "register":
        outcome = formats.read_json(paths["metrics"])
        tracing.note(**{name: outcome[name] for name in tracing.OUTCOME})


def _settings(params: Params, stage: str) -> Block:
    """The stage's own block, so that its code does not depend on others; register keeps all with the version."""
    block: Block = params if stage == "register" else getattr(params, stage)
    return block


def _device() -> str:
    """The GPU where the stage could use one, else the processor."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"{platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main())
