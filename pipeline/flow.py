"""The pipeline as a Prefect flow: one task for each stage of dvc.yaml. The only module that imports prefect.

DVC decides which stages run, and holds the cache; Prefect shows, schedules, retries and notifies.
``python -m pipeline.flow`` runs the flow once.
"""

import asyncio
import base64
import contextlib
import json
import os
import secrets
import sys
import zoneinfo
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import telemetry, tracing
from pipeline.credentials import without_credentials
from pipeline.errors import InputError, StageError

telemetry.switch_off()  # before prefect is imported, which reads the switches then
for _name, _seconds in {  # Prefect's own 20, 60 and 10 are too short on a small or busy machine
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_API_REQUEST_TIMEOUT": "180",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
}.items():
    os.environ.setdefault(_name, _seconds)

from httpx import HTTPError  # noqa: E402
from prefect import flow, get_run_logger, runtime, settings, task  # noqa: E402
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact  # noqa: E402
from prefect.blocks.core import Block  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, FlowRun  # noqa: E402
from prefect.deployments.runner import DeploymentApplyError  # noqa: E402
from prefect.exceptions import FailedRun, ObjectNotFound, PrefectException  # noqa: E402
from prefect.flows import EntrypointType  # noqa: E402
from prefect.logging.handlers import APILogHandler  # noqa: E402
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

from pipeline.files import formats  # noqa: E402
from pipeline.registry import git_state  # noqa: E402
from pipeline.report import picture  # noqa: E402
from pipeline.runs import checkout, command, prefect_server  # noqa: E402
from pipeline.runs.lock import locked  # noqa: E402
from pipeline.runs.prefect_server import Login, own_login  # noqa: E402
from pipeline.runs.stage_order import stage_order  # noqa: E402
from pipeline.settings.params import PARAMS, read_params  # noqa: E402
from pipeline.sources.own_file import own_file  # noqa: E402

_RESULTS = Path("results")
_LOG = Path(".dvc/tmp/prefect-server.log")
_BAD_INPUT = "BadInput"  # the state of a run that refuses its parameters or its folder


class Workspace(NamedTuple):
    """The folder that a run works in, and the limits of its commands.

    Attributes:
        folder: the folder of dvc.yaml.
        store: the MLflow store if the environment names none.
        lock: descriptor of the folder's lock; every child process holds the lock too.
        seconds: how long a command may take; None for no limit.
    """

    folder: Path
    store: str
    lock: int
    seconds: float | None

    def run(self, *module: str) -> str:
        """Run ``python -m module ...`` in the folder, and log its lines; the last line."""
        with tracing.span(" ".join(word for word in module if not word.startswith("-"))):
            return command.run(
                module,
                folder=self.folder,
                log=get_run_logger().info,
                lock=self.lock,
                seconds=self.seconds,
                tracking_uri=self.store,
            )


def _curable(_task: object, _run: object, state: State[Any]) -> bool:
    """Whether to retry: a stage that refuses its input would refuse it each time."""
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
def run_stage(stage: str, workspace: Workspace, *, pull: bool = False, force: bool = False) -> None:
    """Run ``dvc repro`` of one stage; with ``pull``, outputs of an earlier run may come from DVC's remote.

    Raises:
        StageError: the stage failed.
    """
    options = [*(["--pull"] if pull else []), *(["--force"] if force else [])]
    workspace.run("dvc", "repro", "--single-item", *options, stage)


@_task(task_run_name="{direction}")
def exchange(direction: str, workspace: Workspace) -> None:
    """Run ``dvc pull`` or ``dvc push``, with DVC's run cache, which names the outputs where ``dvc.lock`` is lost.

    Raises:
        StageError: the command failed.
    """
    workspace.run("dvc", direction, "--run-cache", *(["--allow-missing"] if direction == "pull" else []))


def _notify_end(flow: object, flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001  prefect passes names
    """Hook of a run that failed, crashed or was cancelled."""
    _notify(flow_run.parameters.get("notify"), f"volvae: run {flow_run.name}: {state.name}", state.message or "")


@flow(
    name="volvae",
    validate_parameters=True,
    on_failure=[_notify_end],
    on_crashed=[_notify_end],
    on_cancellation=[_notify_end],
)
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
    """Run all stages in the order of dvc.yaml.

    Args:
        clean: work in a clean checkout of the current folder's commit, in ``.scheduled``; else in the folder itself.
        allow_dirty: run the commit even if the folder differs from it.
        pull: fetch data from DVC's remote first.
        push: send the outputs to DVC's remote at the end.
        wait_seconds: how long to wait for another run that holds the folder.
        if_needed: run only if the block ``retrain`` of params.yaml finds a reason.
        notify: Prefect block, TYPE/NAME, for messages about failures and refusals: a webhook or a notification block.
        stage_minutes: how long a stage may take.

    Returns:
        Completed, with the outcome as its message; Failed if another run holds the folder or a stage failed; Failed
        with the name BadInput if the folder differs from its commit or there is no such block.
    """
    root = Path.cwd()
    folder = root / checkout.SCHEDULED if clean else root
    seconds = None if stage_minutes is None else 60.0 * stage_minutes
    try:
        with tracing.span("volvae"):
            if notify is not None:
                _notifier(notify)
            if clean and not allow_dirty:
                checkout.check_clean(root)
            with locked(folder, holder=str(runtime.flow_run.id), wait_seconds=wait_seconds) as held:
                if held.killed_holder is not None:
                    _close_killed_run(held.killed_holder, notify)
                if clean:
                    checkout.check_out(root, held.descriptor)
                workspace = Workspace(folder, f"sqlite:///{root}/mlflow.db", held.descriptor, seconds)
                if pull:
                    exchange("pull", workspace)
                if clean:
                    _link_data(root, folder)
                outcome = _run(workspace, if_needed=if_needed, pull=pull, notify=notify)
                if push:
                    exchange("push", workspace)
    except InputError as error:
        return Failed(name=_BAD_INPUT, message=str(error), data=error)
    except StageError as error:
        return Failed(message=str(error), data=error)
    return Completed(message=outcome)


def _link_data(root: Path, folder: Path) -> None:
    """Let the clean checkout read the user's data and the surfaces that are watched."""
    params = read_params(folder / PARAMS)
    for path in (own_file(params.prepare), params.retrain.incoming):
        if path is not None:
            checkout.link(Path(path), source=root, folder=folder)


def _run(workspace: Workspace, *, if_needed: bool, pull: bool, notify: str | None) -> str:
    """Run the stages if there is a reason; the outcome in one line."""
    registered = True
    if if_needed:
        decision = json.loads(workspace.run("pipeline.runs.trigger"))
        if not decision["run"]:
            return str(decision["reason"])
        registered = decision["registered"]
    stages = stage_order(workspace.folder / "dvc.yaml")
    for stage in stages:
        run_stage(stage, workspace, pull=pull, force=stage == "register" and not registered)
    registration = _publish(workspace.folder / _RESULTS, stages)
    if tracing.on():
        known = {name: registration[name] for name in tracing.OUTCOME}
        tracing.note(commit=git_state.read(workspace.folder).commit, **known)
    outcome = "{model} version {version} {verdict}: {reason}".format_map(registration)
    if registration["verdict"] == "refused":
        _notify(notify, "volvae: a version was refused", outcome)
    get_run_logger().info(outcome)
    return outcome


def _publish(results: Path, stages: Sequence[str]) -> dict[str, Any]:
    """Make artifacts of the run from metrics, plots and verdict; the metrics of the stage register."""
    files = {stage: results / f"{stage}.json" for stage in stages}
    measured = {stage: formats.read_json(path) for stage, path in files.items() if path.exists()}
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


def _close_killed_run(run_id: str, notify: str | None) -> None:
    """Mark a run whose process was killed as crashed; Prefect still shows it as running."""
    message = "its process was killed"
    with get_client(sync_client=True) as client:
        try:
            found = client.read_flow_run(run_id)
        except (ObjectNotFound, ValueError):
            return  # a run of another server
        if found.state is not None and not found.state.is_final():
            client.set_flow_run_state(found.id, Crashed(message=message), force=True)
            _notify(notify, f"volvae: run {found.name}: Crashed", message)


def _notifier(name: str) -> Block:
    """The Prefect block TYPE/NAME.

    Raises:
        InputError: there is no such block, or it sends no messages.
    """
    try:
        block = Block.load(name)
    except ValueError as error:
        raise InputError(f"notify: {name!r} is no Prefect block: {' '.join(str(error).split())}") from error
    if not hasattr(block, "notify") and not hasattr(block, "call"):
        raise InputError(f"notify: {name!r} sends no messages; allowed: webhook/NAME or a notification block")
    return block


def _notify(name: str | None, subject: str, text: str) -> None:
    """Send a message through a block. The run goes on if that fails, with a line on standard error."""
    if name is None:
        return
    try:
        block = _notifier(name)
        if hasattr(block, "notify"):
            block.notify(body=text, subject=subject)
        else:
            run_coro_as_sync(block.call({"subject": subject, "text": text})).raise_for_status()
    except Exception as error:  # noqa: BLE001  each kind of block raises its own errors
        print(f"flow: {name} could not send {subject!r}: {' '.join(str(error).split())}", file=sys.stderr)


def run(**parameters: object) -> str:
    """Run the flow once; the outcome in one line.

    Raises:
        InputError: bad parameters.
        StageError: a stage failed, or the server did.
    """
    try:
        with _temporary_server():
            state = volvae(**parameters, return_state=True)
    except (HTTPError, PrefectException, RuntimeError) as error:  # RuntimeError: there is no server at the address
        raise _server_error("does not serve the run", error) from error
    if not state.is_completed():
        _raise_error(state)
    return state.message or ""


def _raise_error(state: State[Any]) -> None:
    try:
        state.result()
    except FailedRun as error:  # an answer was lost, and the server's record of the state carries no exception
        raise (InputError if state.name == _BAD_INPUT else StageError)(state.message or str(error)) from error
    except HTTPError as error:
        raise _server_error("does not serve the run", error) from error


def _server_error(what: str, error: Exception) -> StageError:
    url = PREFECT_API_URL.value()
    address = f"at {url}" if url else "that was started for this run"
    reason = " ".join(str(error).split()) or type(error).__name__
    return StageError(without_credentials(f"the Prefect server {address} {what}: {reason}"))


@contextlib.contextmanager
def _temporary_server() -> Iterator[None]:
    """Protect the server that Prefect starts for one run if none is configured; that server has no pages."""
    if PREFECT_API_URL.value():
        yield
        return
    password = PREFECT_API_AUTH_STRING.value() or f"volvae:{secrets.token_hex(24)}"
    protection = {getattr(settings, name): value for name, value in prefect_server.protection(password).items()}
    with temporary_settings({PREFECT_API_AUTH_STRING: password, **protection}):
        yield


def serve(*, cron: str, timezone: str | None, port: int, **parameters: object) -> None:
    """Run the flow on a schedule until interrupted; a server is started if Prefect's settings name none.

    Raises:
        InputError: ``cron`` is no cron expression, or ``timezone`` is unknown.
        StageError: the server does not start, or does not take the schedule.
    """
    if timezone is not None and timezone not in zoneinfo.available_timezones():
        raise InputError(f"no schedule: the timezone {timezone!r} is unknown; allowed: names such as Europe/London")
    try:
        schedule = Cron(cron, timezone=timezone)
    except ValueError as error:
        raise InputError(f"no schedule: {' '.join(str(error).split())}") from error
    if PREFECT_API_URL.value():
        _serve(schedule, parameters, f"schedule {cron!r} on {without_credentials(PREFECT_API_URL.value())}")
        return
    given = PREFECT_API_AUTH_STRING.value() or PREFECT_SERVER_API_AUTH_STRING.value()
    login = Login(given, "PREFECT_API_AUTH_STRING") if given else own_login(PREFECT_HOME.value())
    with (
        prefect_server.running(port, _LOG.absolute(), login.password) as url,
        temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: login.password}),
    ):
        pages = url.removesuffix("/api")
        _serve(schedule, parameters, f"schedule {cron!r} on {url}; see {pages}, log in with {login.source}")


class _Runner(Runner):  # prefect carries no types here
    """Prefect's runner, whose own handler of SIGTERM calls ``astop`` without awaiting it and so stops nothing."""

    def handle_sigterm(self, *_: object) -> None:
        """Cancel what runs, then return from ``start``."""
        if not self.started:
            sys.exit(0)
        asyncio.run_coroutine_threadsafe(self.astop(), asyncio.get_running_loop())


def _serve(schedule: Schedule, parameters: dict[str, object], done: str) -> None:
    runner = _Runner(name="retrain", limit=1, pause_on_shutdown=False)
    try:
        runner.add_flow(
            volvae,
            name="retrain",
            schedules=[schedule],
            parameters=parameters,
            concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
    except (DeploymentApplyError, HTTPError) as error:
        raise _server_error("does not take the schedule", error) from error
    print(f"flow: {done}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(runner.start())
    run_coro_as_sync(APILogHandler.aflush())  # while the server is there


if __name__ == "__main__":
    try:
        run()
    except (InputError, StageError) as error:
        sys.exit(f"flow: {error}")
