"""Simulated data in shards: the same bytes from every engine, and after a kill at any moment."""

import itertools
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import numpy as np
import pytest
import safetensors.torch
import torch
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from benchmarks.cluster import cluster as started_cluster
from pipeline import __main__ as stages
from pipeline.errors import StageError
from pipeline.evaluate import true_log_density
from pipeline.files import atomic, tensor_files
from pipeline.files.dataset import Dataset
from pipeline.files.join import join_tensors
from pipeline.settings.prepare import HestonPrepare
from pipeline.settings.types import Range
from pipeline.sources import executors, shards, simulated, simulation
from tests import programs
from tests.forks import forked
from tests.services import saying, wait_for
from tests.workspace import PATHS, Workspace, write_tiny_params
from vae.pricing import compiled, heston_surfaces
from vae.pricing.simulated_models import MODELS

SMALL = {"prepare__surfaces": {"train": 32, "validation": 8, "test": 8}, "prepare__surfaces_per_shard": 8}
ARGUMENTS = ["prepare", *(part for name, path in PATHS["prepare"].items() for part in (f"--{name}", path))]


def prepared(folder: Path) -> dict[str, bytes]:
    paths = [*sorted((folder / "data/surfaces").iterdir()), folder / "results/prepare.json"]
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture
def workspace(workspace: Workspace) -> Workspace:
    """With six shards of eight surfaces."""
    workspace.set(**SMALL)
    return workspace


@pytest.fixture(scope="module")
def straight(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shards that one process makes when nothing interrupts it."""
    folder = tmp_path_factory.mktemp("straight")
    write_tiny_params(root, folder)
    Workspace(folder).set(**SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert Workspace(folder).run("prepare") == 0
    return prepared(folder)


def heston_settings(workspace: Workspace) -> HestonPrepare:
    params = workspace.params().prepare
    assert isinstance(params, HestonPrepare)
    return params


def test_shards_are_the_design_cut_into_pieces(workspace: Workspace) -> None:
    params = heston_settings(workspace)
    plan = simulation.plan(params)
    assert [(s.split, s.number, s.size) for s in plan] == [
        ("train", 0, 8), ("train", 1, 8), ("train", 2, 8), ("train", 3, 8), ("validation", 0, 8), ("test", 0, 8),
    ]  # fmt: skip
    whole = simulation.sobol_design(simulation.box(params), 0, 32, seed=params.seed)
    assert torch.equal(torch.cat([simulation.design(params, shard) for shard in plan[:4]]), whole)


@pytest.mark.parametrize("first", [0, 1, 2, 3, 7, 8, 4095, 4096, 123_457])
def test_a_shard_begins_where_the_design_would_have_come_by_drawing(first: int) -> None:
    sides = [Range(low=0.0, high=1.0)] * 5
    engine = torch.quasirandom.SobolEngine(5, scramble=True, seed=3).fast_forward(first)
    assert torch.equal(simulation.sobol_design(sides, first, 9, seed=3), engine.draw(9, dtype=torch.float64))


def disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Say that so many bytes are free."""
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def test_a_disk_without_space_is_one_line_before_any_work(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """48 surfaces and a shard of 8 of them, each of 3 x 9 vols twice in 4 bytes and 5 parameters in 8."""
    monkeypatch.setattr(simulation, "simulate", lambda *_: pytest.fail("a shard was made"))
    needed = (48 + 8) * (2 * 4 * 27 + 8 * 5)
    disk(monkeypatch, needed - 1)
    monkeypatch.setattr(atomic, "_GB", 1.0)
    assert workspace.run("prepare") == 2
    message = capsys.readouterr().err
    assert message.startswith("prepare: the 48 surfaces of prepare.surfaces need 14,336.00 GB, but the disk of .check")
    assert message.endswith("has 14,335.00 GB free: lower their number, or free 1.00 GB\n")
    assert not Path("data/surfaces").exists()


def test_where_space_is_scarce_a_shard_gives_way_to_its_split(
    straight: dict[str, bytes], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes, and no more than the surfaces and a shard of them on the disk at a time."""
    left, unlink = [], Path.unlink

    def noted(self: Path, *, missing_ok: bool = False) -> None:
        unlink(self, missing_ok=missing_ok)
        left.append(len(list(shards.CHECKPOINTS.glob("*/*-*.safetensors"))))

    disk(monkeypatch, (48 + 8) * 256)
    monkeypatch.setattr(simulated, "free_space", lambda _: 2 * 48 * 256 - 1)
    monkeypatch.setattr(Path, "unlink", noted)
    assert workspace.run("prepare") == 0
    assert prepared(workspace.folder) == straight
    assert left[:6] == [5, 4, 3, 2, 1, 0]


def test_held_out_surfaces_are_independent_draws_of_the_box(workspace: Workspace) -> None:
    """Uniform by Kolmogorov and Smirnov, uncorrelated from split to split, and as near to training points as chance.

    Points of one scrambled Sobol sequence keep apart: the test's part of it lies farther from the training points.
    """
    workspace.set(prepare__surfaces={"train": 4096, "validation": 2000, "test": 2000}, prepare__surfaces_per_shard=4096)
    params = heston_settings(workspace)
    low, high = (torch.tensor([getattr(side, end) for side in simulation.box(params)]) for end in ("low", "high"))
    train, validation, test = ((simulation.design(params, s) - low) / (high - low) for s in simulation.plan(params))
    for column in (*validation.T, *test.T):
        assert kstest(column.numpy(), "uniform").pvalue > 1e-4
    assert torch.corrcoef(torch.cat([validation, test], dim=1).T).fill_diagonal_(0.0).abs().max() < 5 / math.sqrt(2000)
    generator = torch.Generator().manual_seed(1)
    nearest, fresh = (
        torch.cdist(points, train).amin(1)
        for points in (test, torch.rand(2000, 5, generator=generator, dtype=torch.float64))
    )
    assert abs(nearest.mean() - fresh.mean()) < 4.0 * math.sqrt((nearest.var() + fresh.var()).item() / 2000)


def test_a_shard_is_a_pure_function_of_settings_and_place(workspace: Workspace) -> None:
    params = heston_settings(workspace)
    key = simulation.key_of(params)
    first, second = simulation.plan(params)[1:3]
    assert simulation.simulate(params, key, second) == simulation.simulate(params, key, second)

    noise = [
        tensors["iv"].double() - tensors["clean"].double()
        for tensors in (safetensors.torch.load(simulation.simulate(params, key, s)) for s in (first, second))
    ]
    correlation = np.corrcoef(noise[0].flatten().numpy(), noise[1].flatten().numpy())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(noise[0].numel())


def test_a_worker_with_other_code_is_refused(workspace: Workspace) -> None:
    params = heston_settings(workspace)
    with pytest.raises(StageError, match="another version of volvae"):
        simulation.simulate(params, "other", simulation.plan(params)[0])


def test_where_shards_are_made_does_not_change_their_key(workspace: Workspace) -> None:
    key = simulation.key_of(heston_settings(workspace))
    workspace.set(prepare__engine="dask", prepare__address="tcp://127.0.0.1:8786", prepare__workers=7)
    assert simulation.key_of(heston_settings(workspace)) == key
    workspace.set(prepare__seed=8)
    assert simulation.key_of(heston_settings(workspace)) != key


@pytest.mark.slow
def test_two_processes_make_the_bytes_of_one(straight: dict[str, bytes], workspace: Workspace) -> None:
    workspace.set(prepare__workers=2)
    assert workspace.run("prepare") == 0
    assert prepared(workspace.folder) == straight


def killed_at(moment: int) -> int:
    """The stage in a process that is killed before it writes to the disk for so many times."""
    fsync, numbers = os.fsync, itertools.count(1)

    def counted(descriptor: int) -> None:
        if next(numbers) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    os.fsync = counted
    return stages.main(ARGUMENTS)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [1, 4, 12, 15, 22])
def test_a_run_killed_at_any_write_resumes_to_the_same_bytes(
    straight: dict[str, bytes], workspace: Workspace, moment: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL before the content or the name of a file is on disk: of a shard, a split, the grid or the report."""
    assert forked(partial(killed_at, moment), workspace.folder).code == -signal.SIGKILL
    assert not Path("data/surfaces").exists() or moment == 22
    kept = list(shards.CHECKPOINTS.glob("*/*-*.safetensors"))

    assert workspace.run("prepare") == 0

    assert prepared(workspace.folder) == straight
    assert (f"resumed with {len(kept)} of 6 shards" in capfd.readouterr().err) == bool(kept)
    assert not shards.CHECKPOINTS.exists()


@pytest.mark.slow
def test_an_interrupt_is_one_line_and_keeps_the_shards(root: Path, workspace: Workspace) -> None:
    """To all processes of the group, as a terminal sends it, when the first shard is there."""
    workspace.set(prepare__workers=2, prepare__surfaces__train=20_000)
    command, environment = ["python", "-m", "pipeline", *ARGUMENTS], {**os.environ, "PYTHONPATH": str(root)}
    with programs.start(command, environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:

        def has_a_shard() -> bool:
            assert process.poll() is None
            return any(shards.CHECKPOINTS.glob("*/*-*.safetensors"))

        wait_for(has_a_shard, seconds=300, what="the first shard")
        os.killpg(process.pid, signal.SIGINT)
        message = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert message.splitlines()[-1] == "prepare: interrupted"
    assert "Traceback" not in message
    assert list(shards.CHECKPOINTS.glob("*/*-*.safetensors"))


def test_a_damaged_shard_is_made_again(straight: dict[str, bytes], workspace: Workspace) -> None:
    path = next(iter(simulated.finished_shards(heston_settings(workspace)).values()))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (path.parent / "train-00001-0123.safetensors").write_bytes(b"half")

    assert workspace.run("prepare") == 0
    assert prepared(workspace.folder) == straight


def test_shards_of_other_settings_are_removed(workspace: Workspace) -> None:
    other = shards.CHECKPOINTS / "0123456789abcdef"
    other.mkdir(parents=True)
    simulated.finished_shards(heston_settings(workspace))
    assert not other.exists()


@pytest.mark.slow
def test_too_few_complete_surfaces_are_one_line(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.set(prepare__grid__nodes={"start": -6.0, "stop": 6.0, "count": 9})
    assert workspace.run("prepare") == 1
    message = capsys.readouterr().err
    assert "0 train surfaces are complete, too few: 32 price too small for its accuracy; narrow" in message
    assert not Path("data/surfaces").exists()


@pytest.mark.slow
def test_a_model_without_derivatives_has_a_law_and_no_exact_density(
    prepared: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Dataset(prepared.folder / "data/surfaces")
    assert true_log_density(data) is not None
    monkeypatch.setitem(MODELS, "heston", MODELS["heston"]._replace(has_jacobian=False))
    assert data.law is not None
    assert true_log_density(data) is None


@pytest.mark.slow
def test_surfaces_on_a_grid_in_deltas(workspace: Workspace) -> None:
    workspace.set(prepare__grid={"convention": "delta", "tenors_days": [30, 365], "nodes": [0.1, 0.25, 0.5, 0.75, 0.9]})
    workspace.set(train__model__basis=5)
    assert workspace.run("prepare") == 0
    split = tensor_files.read_tensors(Path("data/surfaces/test.safetensors")).tensors
    grid = Dataset(Path("data/surfaces")).grid
    assert split["clean"].shape[1:] == (2, 5)
    exact = heston_surfaces.surfaces(split["parameters"], grid).vol
    torch.testing.assert_close(split["clean"], exact.float(), rtol=0.0, atol=0.0)


@pytest.mark.slow
def test_a_killed_worker_is_one_line() -> None:
    with pytest.raises(StageError, match="a worker was killed"):
        list(executors.local(signal.raise_signal, [signal.SIGKILL] * 3, workers=2))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a Dask scheduler on the loopback, and its two worker processes."""
    with started_cluster(tmp_path, workers=2) as (address, processes):
        yield address, processes[1:]


class LosingClient:
    """A Dask client of two workers, of which one is lost before its scheduler hears of a subscription."""

    def __init__(self, *_: object, **__: object) -> None:
        self.workers = {"tcp://a:1": 1, "tcp://b:1": 1}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_for_workers(self, *_: object, **__: object) -> None:
        pass

    def subscribe_topic(self, *_: object) -> None:
        del self.workers["tcp://a:1"]

    def nthreads(self) -> dict[str, int]:
        return dict(self.workers)

    def get_executor(self, **_: object) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1)


def test_a_worker_that_is_lost_before_losses_are_heard_of_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(Client=LosingClient, KilledWorker=RuntimeError))
    monkeypatch.setattr(executors, "_greet", lambda address: None)
    assert list(executors.dask(abs, [-1], address="tcp://s:1")) == [(-1, 1)]
    assert "prepare: the Dask worker tcp://a:1 is gone, 1 are left\n" in capsys.readouterr().err


@pytest.mark.slow
def test_dask_makes_the_same_bytes_although_a_worker_dies(
    straight: dict[str, bytes],
    workspace: Workspace,
    cluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, workers = cluster
    workspace.set(prepare__engine="dask", prepare__address=address, prepare__workers=None)
    run = executors.dask

    def and_kill(*arguments, **options):
        for number, result in enumerate(run(*arguments, **options)):
            if number == 0:
                workers[0].kill()
                with Client(address, set_as_default=False) as client:
                    wait_for(lambda: len(client.nthreads()) == 1, seconds=60, what="the loss of a worker")
            yield result

    monkeypatch.setattr(executors, "dask", and_kill)
    assert workspace.run("prepare") == 0
    assert workers[0].wait() == -signal.SIGKILL
    assert prepared(workspace.folder) == straight
    told = capsys.readouterr().err
    assert f"prepare: asking for the Dask scheduler at {address}, 30 s at most\n" in told
    assert re.search(r"^prepare: the Dask worker tcp://127\.0\.0\.1:\d+ is gone, 1 are left$", told, re.MULTILINE)


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_another_program_at_the_address_of_dask_is_one_line(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], greeting: bytes
) -> None:
    monkeypatch.setattr(executors, "_CONNECT_SECONDS", 1.0)
    with saying(greeting) as port:
        workspace.set(prepare__engine="dask", prepare__address=f"tcp://127.0.0.1:{port}", prepare__workers=None)
        assert workspace.run("prepare") == 1
    last = f"prepare failed: prepare.address: no Dask scheduler answers at tcp://127.0.0.1:{port}"
    assert capsys.readouterr().err.splitlines()[-1] == last


def test_no_scheduler_at_the_address_is_one_line(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(executors, "_CONNECT_SECONDS", 0.2)
    workspace.set(prepare__engine="dask", prepare__address="tcp://127.0.0.1:9", prepare__workers=None)
    assert workspace.run("prepare") == 1
    assert capsys.readouterr().err.splitlines() == [
        "prepare: asking for the Dask scheduler at tcp://127.0.0.1:9, 0.2 s at most",
        "prepare failed: prepare.address: no Dask scheduler answers at tcp://127.0.0.1:9",
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prepare__engine": "dask"}, "engine: dask needs address (tcp://host:8786)"),
        ({"prepare__address": "tcp://here:8786"}, "engine: local has no address"),
        ({"prepare__engine": "spark"}, "prepare.engine: Input should be 'local' or 'dask' (got 'spark')"),
        ({"prepare__surfaces_per_shard": 0}, "prepare.surfaces_per_shard"),
    ],
)
def test_engine_settings_are_checked(
    workspace: Workspace, values: dict, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.set(**values)
    assert workspace.run("prepare") == 2
    assert message in capsys.readouterr().err


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.integers(0, 5), min_size=1, max_size=4), width=st.integers(1, 3), remove=st.booleans())
def test_joined_tensors_are_those_of_the_library(
    tmp_path_factory, rows: list[int], width: int, *, remove: bool
) -> None:
    folder = tmp_path_factory.mktemp("join")
    parts = []
    for number, count in enumerate(rows):
        tensors = {"b": torch.rand(count, width, 3), "a": torch.rand(count, dtype=torch.float64)}
        tensor_files.write_tensors(folder / f"{number}", tensors)
        parts.append(tensors)
    files = [folder / f"{number}" for number in range(len(rows))]
    join_tensors(folder / "whole", files, remove=remove)
    assert [file.exists() for file in files] == [not remove] * len(files)
    together = {name: torch.cat([part[name] for part in parts]) for name in ("a", "b")}
    assert (folder / "whole").read_bytes() == safetensors.torch.save(together)


def test_compiled_kernels_are_used_where_they_are_asked_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage hands the kernels on; tests/vae/pricing/test_compiled.py tests their vols."""
    asked = []
    monkeypatch.setattr(compiled, "kernels", lambda device: asked.append(device) or heston_surfaces.EAGER)
    workspace.set(prepare__compiled=True)
    simulated.finished_shards(heston_settings(workspace))
    assert set(asked) == {torch.device("cuda" if torch.cuda.is_available() else "cpu")}


@pytest.mark.slow
def test_compiling_without_a_compiler_is_one_line(root: Path, workspace: Workspace) -> None:
    workspace.set(prepare__compiled=True)
    command = [sys.executable, "-m", "pipeline", *ARGUMENTS]
    environment = {"PATH": "", "PYTHONPATH": str(root), "TORCHINDUCTOR_CACHE_DIR": str(workspace.folder / "cache")}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("prepare failed: prepare.compiled: true needs a C++ compiler")
    assert "Traceback" not in ended.stderr
