"""The pipeline as a Prefect flow: one task for each stage of dvc.yaml. The only module that imports prefect.

DVC decides what runs and holds the cache; Prefect shows, schedules, retries and tells. ``python -m pipeline.flow`` runs
it once.
"""

import asyncio
import base64
import contextlib
import json
import os
import secrets
import sys
import zoneinfo
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import telemetry
from pipeline.errors import InputError, StageError

telemetry.switch_off()  # before prefect is imported, which reads the switches then
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")  # 20 is too short on a small machine

from prefect import flow, get_run_logger, runtime, settings, task  # noqa: E402
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact  # noqa: E402
from prefect.blocks.core import Block  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, FlowRun  # noqa: E402
from prefect.exceptions import ObjectNotFound  # noqa: E402
from prefect.flows import EntrypointType  # noqa: E402
from prefect.runner import Runner  # noqa: E402
from prefect.schedules import Cron, Schedule  # noqa: E402
from prefect.settings import (  # noqa: E402
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_API_AUTH_STRING,
    temporary_settings,
)
from prefect.states import Completed, Crashed, Failed, State  # noqa: E402
from prefect.utilities.asyncutils import run_coro_as_sync  # noqa: E402

from pipeline.report import picture  # noqa: E402
from pipeline.runs import command, prefect_server, workspace  # noqa: E402
from pipeline.runs.stage_order import stage_order  # noqa: E402

_RESULTS = Path("results")
_LOG = Path(".dvc/tmp/prefect-server.log")


class Place(NamedTuple):
    """Where the commands of a run work.

    Attributes:
        folder: of dvc.yaml.
        store: the MLflow store where the environment names none.
        lock: descriptor of the folder's lock, which every child holds too.
        seconds: how long a command may take.
    """

    folder: Path
    store: str
    lock: int
    seconds: float | None

    def run(self, *module: str) -> str:
        """``python -m module ...`` there, its lines in the log; the last one."""
        return command.run(
            module,
            folder=self.folder,
            tell=get_run_logger().info,
            hold=self.lock,
            seconds=self.seconds,
            tracking_uri=self.store,
        )


def _curable(_task: object, _run: object, state: State[Any]) -> bool:
    """Whether to try again: a stage that refuses its input refuses it each time."""
    return isinstance(state.data, command.CurableError)


_task = partial(
    task,
    cache_policy=NO_CACHE,  # DVC has the cache
    persist_result=False,
    retries=2,
    retry_delay_seconds=[10.0, 60.0],
    retry_condition_fn=_curable,
)


@_task(task_run_name="{stage}")
def run_stage(stage: str, place: Place, *, force: bool = False) -> None:
    """``dvc repro`` of one stage.

    Raises:
        StageError: it failed.
    """
    place.run("dvc", "repro", "--single-item", *(["--force"] if force else []), stage)


@_task(task_run_name="{what}")
def exchange(what: str, place: Place) -> None:
    """``dvc pull`` or ``dvc push``.

    Raises:
        StageError: it failed.
    """
    place.run("dvc", what, *(["--allow-missing"] if what == "pull" else []))


def _told(_flow: object, flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of a run that ended badly."""
    _tell(flow_run.parameters.get("notify"), f"volvae: run {flow_run.name}: {state.name}", state.message or "")


@flow(name="volvae", validate_parameters=True, on_failure=[_told], on_crashed=[_told], on_cancellation=[_told])
def volvae(
    *,
    clean: bool = False,
    allow_dirty: bool = False,
    pull: bool = False,
    push: bool = False,
    wait_seconds: float = 0.0,
    if_needed: bool = False,
    notify: str | None = None,
    stage_minutes: float | None = None,
) -> State[Any]:
    """All stages in the order of dvc.yaml.

    Args:
        clean: work in a clean checkout of the current folder's commit, in ``.scheduled``; else in the folder itself.
        allow_dirty: run the commit even where the folder differs from it.
        pull: fetch data from DVC's remote first.
        push: store what was made in DVC's remote at the end.
        wait_seconds: how long to wait for another run that holds the folder.
        if_needed: run only if the block ``retrain`` of params.yaml finds reason to.
        notify: Prefect block, TYPE/NAME, that is told of failures and refusals: a webhook or any notification block.
        stage_minutes: how long a stage may take.

    Returns:
        Completed, with what came of it; Failed where the folder differs from its commit, another run holds it, there is
        no such block, or a stage failed.
    """
    root = Path.cwd()
    folder = root / workspace.SCHEDULED if clean else root
    seconds = None if stage_minutes is None else 60.0 * stage_minutes
    try:
        if notify is not None:
            _block(notify)
        if clean and not allow_dirty:
            workspace.check_clean(root)
        with workspace.locked(folder, holder=str(runtime.flow_run.id), wait_seconds=wait_seconds) as held:
            if held.left is not None:
                _sweep(held.left, notify)
            if clean:
                workspace.check_out(root)
            place = Place(folder, f"sqlite:///{root}/mlflow.db", held.descriptor, seconds)
            if pull:
                exchange("pull", place)
            said = _run(place, if_needed=if_needed, notify=notify)
            if push:
                exchange("push", place)
    except (InputError, StageError) as error:
        return Failed(message=str(error), data=error)
    return Completed(message=said)


def _run(place: Place, *, if_needed: bool, notify: str | None) -> str:
    """The stages, if there is reason to run them; what came of it in one line."""
    registered = True
    if if_needed:
        decision = json.loads(place.run("pipeline.runs.trigger"))
        if not decision["run"]:
            return str(decision["reason"])
        registered = decision["registered"]
    for stage in stage_order(place.folder / "dvc.yaml"):
        run_stage(stage, place, force=stage == "register" and not registered)
    outcome = _show(place.folder / _RESULTS)
    said = f"{outcome['model']} version {outcome['version']} {outcome['verdict']}: {outcome['reason']}"
    if outcome["verdict"] == "refused":
        _tell(notify, "volvae: a version was refused", said)
    get_run_logger().info(said)
    return said


def _show(results: Path) -> dict[str, Any]:
    """Metrics, plots and the verdict as artifacts of the run; the outcome of the stage register."""
    measured = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    outcome: dict[str, Any] = measured.pop("register")
    rows = [
        {"stage": stage, "metric": k, "value": v} for stage, figures in measured.items() for k, v in figures.items()
    ]
    create_table_artifact(key="volvae-metrics", table=rows, description="Metrics of every stage")
    checks = "\n".join(f"| {name} | {value} |" for name, value in outcome.items())
    create_markdown_artifact(
        key="volvae-gate", markdown=f"| | |\n|---|---|\n{checks}", description="Verdict of the gate"
    )
    content = base64.b64encode(picture.picture(results)).decode()
    create_image_artifact(key="volvae-plots", image_url=f"data:image/png;base64,{content}", description="Plots")
    return outcome


def _sweep(left: str, notify: str | None) -> None:
    """Close a run that held the folder and was killed: to Prefect it still runs."""
    message = "its process was killed"
    with get_client(sync_client=True) as client:
        try:
            found = client.read_flow_run(left)
        except (ObjectNotFound, ValueError):
            return  # of another server
        if found.state is not None and not found.state.is_final():
            client.set_flow_run_state(found.id, Crashed(message=message), force=True)
            _tell(notify, f"volvae: run {found.name}: Crashed", message)


def _block(name: str) -> Block:
    """The block of this TYPE/NAME.

    Raises:
        InputError: there is none that can be told anything.
    """
    try:
        block = Block.load(name)
    except ValueError as error:
        raise InputError(f"notify: {name!r} is no Prefect block: {' '.join(str(error).split())}") from error
    if not hasattr(block, "notify") and not hasattr(block, "call"):
        raise InputError(f"notify: {name!r} can be told nothing; allowed: webhook/NAME or a notification block")
    return block


def _tell(name: str | None, subject: str, text: str) -> None:
    """Tell a block. A message that cannot be sent is no reason to fail, but is said."""
    if name is None:
        return
    try:
        block = _block(name)
        if hasattr(block, "notify"):
            block.notify(body=text, subject=subject)
        else:
            run_coro_as_sync(block.call({"subject": subject, "text": text})).raise_for_status()
    except Exception as error:  # noqa: BLE001  what the many kinds of blocks raise
        print(f"flow: {name} could not be told {subject!r}: {' '.join(str(error).split())}", file=sys.stderr)


def run(**parameters: object) -> str:
    """Run the flow once; what came of it.

    Raises:
        InputError: bad parameters.
        StageError: a stage failed.
    """
    with _temporary_server():
        state = volvae(**parameters, return_state=True)
    if not state.is_completed():
        state.result()
    return state.message or ""


@contextlib.contextmanager
def _temporary_server() -> Iterator[None]:
    """Protect the server that Prefect starts for one run where none is configured, and that has no pages."""
    if PREFECT_API_URL.value():
        yield
        return
    password = PREFECT_API_AUTH_STRING.value() or f"volvae:{secrets.token_hex(24)}"
    protection = {getattr(settings, name): value for name, value in prefect_server.protection(password).items()}
    with temporary_settings({PREFECT_API_AUTH_STRING: password, **protection}):
        yield


def serve(*, cron: str, timezone: str | None, port: int, **parameters: object) -> None:
    """Run the flow on a schedule until interrupted; a server is started where the settings name none.

    Raises:
        InputError: cron or timezone are none.
        StageError: the server does not start.
    """
    if timezone is not None and timezone not in zoneinfo.available_timezones():
        raise InputError(f"no schedule: the timezone {timezone!r} is unknown; allowed: names such as Europe/London")
    try:
        schedule = Cron(cron, timezone=timezone)
    except ValueError as error:
        raise InputError(f"no schedule: {' '.join(str(error).split())}") from error
    if PREFECT_API_URL.value():
        _serve(schedule, parameters)
        return
    password = PREFECT_API_AUTH_STRING.value() or PREFECT_SERVER_API_AUTH_STRING.value()
    login = "PREFECT_API_AUTH_STRING"
    if not password:
        path = prefect_server.password_file(PREFECT_HOME.value())
        password, login = path.read_text().strip(), f"the content of {path}"
    with (
        prefect_server.running(port, _LOG.absolute(), password) as url,
        temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: password}),
    ):
        print(f"flow: schedule {cron!r} on {url}; see {url.removesuffix('/api')}, log in with {login}", flush=True)
        _serve(schedule, parameters)


class _Runner(Runner):
    """Prefect's runner, whose own handler of SIGTERM calls ``astop`` without awaiting it and so stops nothing."""

    def handle_sigterm(self, *_: object) -> None:
        """Cancel what runs, then return from ``start``."""
        if not self.started:
            sys.exit(0)
        asyncio.run_coroutine_threadsafe(self.astop(), asyncio.get_running_loop())


def _serve(schedule: Schedule, parameters: dict[str, object]) -> None:
    runner = _Runner(name="retrain", limit=1, pause_on_shutdown=False)
    runner.add_flow(
        volvae,
        name="retrain",
        schedules=[schedule],
        parameters=parameters,
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(runner.start())


if __name__ == "__main__":
    try:
        run()
    except (InputError, StageError) as error:
        sys.exit(f"flow: {error}")
