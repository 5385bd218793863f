"""The pipeline as a Prefect flow: one task for each stage of dvc.yaml. The only module that imports prefect.

DVC decides what runs and holds the cache; Prefect shows, schedules and logs. ``python -m pipeline.flow`` runs it once.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from pipeline import telemetry
from pipeline.errors import InputError, StageError
from pipeline.stages import stage_order

telemetry.switch_off()  # before prefect is imported, which reads the switches then
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")  # 20 is too short on a small machine

from prefect import flow, get_run_logger, task  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402

_GRACE_SECONDS = 10.0


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: str) -> None:
    """``dvc repro`` of one stage, its lines in the task's log.

    Raises:
        StageError: the stage ended with another exit code than 0.
    """
    logger = get_run_logger()
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(),
        start_new_session=True,  # a group of its own, so that nothing of it outlives the task
    )
    last = ""
    try:
        for line in process.stdout or ():
            if line.strip():
                last = line.rstrip()
                logger.info(last)
        code = process.wait()
    finally:
        _end(process)
    if code:
        raise StageError(f"stage {stage} ended with exit code {code}: {last}")


@flow(name="volvae")
def volvae() -> None:
    """All stages in the order of dvc.yaml."""
    for stage in stage_order():
        run_stage(stage)


def run() -> None:
    """Run the flow once.

    Raises:
        StageError: a stage failed.
    """
    volvae()


def _environment() -> dict[str, str]:
    """This environment, with the running Python first on the path: the commands of dvc.yaml say ``python``."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def _end(process: subprocess.Popen[str]) -> None:
    """Stop the process and its children: first politely, then not."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    try:
        run()
    except (InputError, StageError) as error:
        sys.exit(f"flow: {error}")
