"""Fixtures of all tests: telemetry off, torch's global state guarded, GPU tests skipped without a GPU."""

import gc
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from pipeline import openmp
from tests.untraced import leave_out_foreign_code

gc.disable()  # until all is collected: modules stay, and looking for garbage among them takes seconds
leave_out_foreign_code()  # before it is imported
WORKER = "PYTEST_XDIST_WORKER" in os.environ
openmp.bound_threads()  # before torch is imported, as OpenMP reads its settings then
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers fill the cores; alone, sums are the same

import torch  # noqa: E402

from pipeline import telemetry  # noqa: E402
from tests.bundles import linear_bundle, market_bundle, moving_bundle  # noqa: E402, F401  fixtures of every folder
from tests.exports import _export_is_quick, kept_graphs  # noqa: E402, F401
from tests.repositories import repository  # noqa: E402, F401
from tests.services import prefect_store  # noqa: E402, F401
from tests.shared import common_folder  # noqa: E402
from tests.workspace import finished, in_finished, in_prepared, prepared, workspace  # noqa: E402, F401

telemetry.switch_off()
# Where a shell starts pytest in the background, it ignores SIGINT. Programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, so that a change fails only by its own fault; `--hypothesis-profile search` looks for
# new ones. An example may take long where other programs keep the cores busy.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=1000)
settings.register_profile("same", settings.get_profile("search"), derandomize=True, max_examples=100)
settings.load_profile("same")

ROOT = Path(__file__).parents[1]
SHARED_RUNS = ("finished", "first_run")  # built once, see tests/shared.py; the second is made of the first
# What takes torch's exporter or Chromium more than ten seconds of a core. Other bundles of tests are ``linear_bundle``.
COSTLY = {*SHARED_RUNS, "market_bundle", "moving_bundle", "browser"}
QUICK = 0.5  # seconds of a core, which a test that is not marked slow may take


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order, mark and group the tests; skip those marked gpu, with the reason, where torch finds no CUDA device."""
    for item in items:
        if not COSTLY.isdisjoint(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    if WORKER:
        order_for_workers(items)
    else:
        items.sort(key=is_slow)  # quick tests first, so that a run fails early
    for item in items:
        if shares_a_fixture(item) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))
        if is_property(item):
            item.add_marker(pytest.mark.no_cover)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="torch finds no CUDA device"))


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but for what was there before the tests."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Note what a test takes, with the processes that it waited for."""
    before = core_seconds()
    try:
        return (yield)
    finally:
        item.user_properties.append(("core_seconds", core_seconds() - before))


def core_seconds() -> float:
    """Seconds of a core of this process and of its children that have ended."""
    return sum(os.times()[:4])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name quick tests that are not quick: they are to be made cheaper, or marked slow. Busy cores add to the time."""
    calls = [report for report in terminalreporter.getreports("passed") if "slow" not in report.keywords]
    taken = {report.nodeid: dict(report.user_properties).get("core_seconds", 0.0) for report in calls}
    long = sorted((name for name in taken if taken[name] > QUICK), key=taken.__getitem__, reverse=True)
    if long:
        terminalreporter.section(f"{len(long)} tests not marked slow took more than {QUICK} seconds of a core")
        for name in long[:20]:
            terminalreporter.line(f"{taken[name]:.2f} s  {name}")


def is_property(item: pytest.Item) -> bool:
    """Whether hypothesis runs a test, over lines that others cover: coverage would nearly double its time."""
    return getattr(getattr(item, "function", None), "is_hypothesis_test", False)


def is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def order_for_workers(items: list[pytest.Item]) -> None:
    """Slow tests first, so that workers end together.

    A worker that needs a run which another one still makes would wait. So one test goes first and makes the run that
    most tests need; those come after the slow tests that need none, first the one that makes the other run.
    """
    makes_finished, makes_first_run = (next((i for i in items if run in i.fixturenames), None) for run in SHARED_RUNS)

    def rank(item: pytest.Item) -> int:
        if item is makes_finished:
            return 0
        if item is makes_first_run:
            return 2
        if not is_slow(item):
            return 4
        return 3 if any(run in item.fixturenames for run in SHARED_RUNS) else 1

    items.sort(key=rank)


def shares_a_fixture(item: pytest.Item) -> bool:
    """Whether a test uses a fixture of its module, such as a server: one worker then runs all tests that do."""
    definitions = item._fixtureinfo.name2fixturedefs.values()
    return any(definition[-1].scope == "module" for definition in definitions)


@pytest.fixture(autouse=True)
def _global_state_stays() -> Iterator[None]:
    """Fail a test that leaves torch's settings or MLflow's store changed, and give each the same random numbers."""
    torch.default_generator.manual_seed(0)  # torch.manual_seed keeps three stack traces for devices that are not there
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)
    before = _global_state()
    yield
    assert _global_state() == before


def _global_state() -> tuple[object, ...]:
    store = os.environ.get("MLFLOW_TRACKING_URI")  # set by mlflow.set_tracking_uri too, and read by all children
    return torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), store


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def reference() -> Path:
    return ROOT / "tests" / "reference"


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Node, with the packages of the lock installed."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        pytest.skip("node and npm are not installed")
    scripts = ROOT / "tests/javascript"
    with FileLock(common_folder(tmp_path_factory) / "node_modules.lock"):
        if not all((scripts / "node_modules" / name).exists() for name in ("onnxruntime-web", "axe-core")):
            subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=scripts, check=True)
    return program
