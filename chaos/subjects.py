"""The transactions that faults strike, each from a state that is there before it to one that is there after it."""

import contextlib
import functools
import gc
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import mlflow.onnx  # noqa: F401  what a transaction would import; a child is forked after it
import onnx
from mlflow.store.db import utils
from ruamel.yaml import YAML
from sqlalchemy import Engine
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.util import LRUCache

from chaos import faults
from chaos.faults import Work
from deploy.server.metrics import Metrics
from deploy.server.reload import Follower, champion
from deploy.server.served import fingerprint
from deploy.server.trial import Trials
from pipeline import __main__ as stages
from pipeline.cli.main import main as volvae
from pipeline.files import formats
from pipeline.registry import registry
from pipeline.registry.alias_link import _Mirror
from pipeline.registry.dvc_lock import md5
from pipeline.registry.mlflow_store import RunRecord
from pipeline.registry.registry import CHALLENGER, CHAMPION, Registry
from pipeline.settings.params import read_params
from vae.bundle import DECODER, MANIFEST

ROOT = Path(__file__).parents[1]
_MODEL = "volvae"
_SECONDS = 10.0  # in which threads end that nobody needs any more
Strike = AbstractContextManager[None]
_TINY: Mapping[str, Any] = {
    "prepare": {
        "surfaces": {"train": 32, "validation": 8, "test": 8},
        "surfaces_per_shard": 16,
        "workers": 1,
        "grid": {
            "convention": "log_moneyness",
            "tenors_days": [26, 182],
            "nodes": {"start": -0.2, "stop": 0.2, "count": 5},
        },
    },
    "train": {
        "model": {"latents": 2, "basis": 6, "width": 8, "depth": 1, "scale": "shared", "scale_floor": 1.0e-6},
        "prior": {"components": [1], "surfaces": 16},
        "epochs": 2,
        "arbitrage": {"epochs": 0},
        "batch": 16,
        "checkpoint_epochs": 1,
        "device": "cpu",
        "scaffold_latents": 0,
        "refit": False,
    },
    "export": {"parity_samples": 10},
}
PATHS = {
    "prepare": {"surfaces": "data/surfaces", "metrics": "results/prepare.json"},
    "train": {
        "surfaces": "data/surfaces",
        "model": "artifacts/model",
        "metrics": "results/train.json",
        "curve": "results/training.csv",
    },
    "export": {
        "surfaces": "data/surfaces",
        "model": "artifacts/model",
        "bundle": "artifacts/bundle",
        "metrics": "results/export.json",
    },
}


class Transaction(NamedTuple):
    """A transaction in any folder, and how its outcome is seen.

    Attributes:
        work: the transaction, in a copy of the template.
        state: what a reader finds in that folder, by name; each entry is that from before or that from after.
        remains: whether the work, done again after it was done, is refused in one line.
    """

    work: Work
    state: Callable[[Strike], Mapping[str, object]]
    remains: bool = False


class Subject(NamedTuple):
    """One transaction, and from where it starts.

    Attributes:
        name: in tables.
        template: folder from which each trial starts.
        work: as of ``Transaction``, and so are the others.
        state: likewise.
        remains: likewise.
    """

    name: str
    template: Path
    work: Work
    state: Callable[[Strike], Mapping[str, object]]
    remains: bool = False


def of_stages(folder: Path) -> list[Subject]:
    """The stages that write files; the template, with what they write from another seed, is made unless it is there."""
    from pipeline import export, prepare, train  # noqa: F401, PLC0415  as above; they take seconds for torch
    from pipeline.sources import simulated  # noqa: F401, PLC0415

    project = folder / "made/project"
    if not (project / "complete").exists():
        project.mkdir(parents=True)
        _write_settings(project, seed=1)
        for name in PATHS:
            _must(faults.run(partial(stage, name), project))
        _write_settings(project, seed=2)
        (project / "complete").touch()
    graphs = {path.name: path.read_bytes() for path in (project / PATHS["export"]["bundle"]).glob("*.onnx")}
    export.graph_files = lambda *_, **__: dict(graphs)  # which take seconds, and no disk
    return [
        Subject(name, project, partial(stage, name), partial(written, [*paths.values()][_INPUTS[name] :]))
        for name, paths in PATHS.items()
    ]


def of_registry(folder: Path, bundle: Path) -> list[Subject]:
    """The transactions on versions, which are made of a bundle; likewise."""
    store = registered(folder / "registered", partial(register_versions, bundle))
    with contextlib.chdir(store), opened() as models:
        models.find(CHAMPION)  # in this process, so that what MLflow imports late is there for all children
    return [Subject(name, store, *transaction) for name, transaction in _OF_REGISTRY.items()]


def registered(folder: Path, work: Work) -> Path:
    """A folder with settings in which the work was done; it is made unless it is there."""
    store = folder / "project"
    if not (store / "complete").exists():
        store.mkdir(parents=True)
        _write_settings(store, seed=1)
        _must(faults.run(work, store))
        (store / "complete").touch()
    return store


_INPUTS = {"prepare": 0, "train": 1, "export": 2}  # number of the paths of a stage that it reads


def rehearse(subjects: Sequence[Subject], folder: Path) -> None:
    """Do all once in this process, in copies, so that what libraries import and look up is there for all children.

    Raises:
        RuntimeError: a thread was left, which a fork would lose.
    """
    _remember()
    folder.mkdir(parents=True)
    for number, subject in enumerate(subjects):
        project = folder / str(number) / "project"
        shutil.copytree(subject.template, project)
        with contextlib.chdir(project), faults.silenced():
            for part in (subject.work, subject.state):
                with contextlib.suppress(SystemExit):
                    part(contextlib.nullcontext())
    shutil.rmtree(folder)
    gc.collect()
    for thread in threading.enumerate()[1:]:  # of pools that are collected now
        thread.join(_SECONDS)
    if threading.active_count() > 1:
        raise RuntimeError(f"{threading.enumerate()} run, which a fork would lose")
    gc.freeze()  # or each child looks through, and thereby copies, all that was imported


def _remember() -> None:
    """Let children start with what does not depend on their files: the revision of MLflow's schema, compiled SQL."""
    utils._get_latest_schema_revision = functools.cache(utils._get_latest_schema_revision)
    statements: LRUCache[Any, Any] = LRUCache(10_000)
    setattr(Engine, "_compiled_cache", property(lambda _: statements, lambda _, __: None))  # noqa: B010
    setattr(SQLiteDialect, "__eq__", lambda one, other: type(one) is type(other))  # noqa: B010
    setattr(SQLiteDialect, "__hash__", lambda _: 0)  # noqa: B010


def _must(outcome: faults.Outcome) -> None:
    if outcome.code:
        raise RuntimeError(outcome.said)


def _write_settings(folder: Path, *, seed: int) -> None:
    settings = YAML(typ="safe").load(ROOT / "params.yaml")
    for block, values in _TINY.items():
        settings[block] |= values
        settings[block]["seed"] = seed
    YAML().dump(settings, folder / "params.yaml")


def stage(name: str, strike: Strike) -> None:
    """Run a stage in the current folder."""
    arguments = [part for key, path in PATHS[name].items() for part in (f"--{key}", path)]
    with strike:
        sys.exit(stages.main([name, *arguments]))


def _command(*arguments: str) -> Work:
    def work(strike: Strike) -> None:
        with strike:
            volvae(list(arguments), standalone_mode=False)

    return work


def written(paths: Sequence[str], _: Strike | None = None) -> dict[str, object]:
    """Hashes of files and folders."""
    return {path: md5(Path(path)) if Path(path).exists() else None for path in paths}


def _record(bundle: Path) -> RunRecord:
    return RunRecord(
        content=bundle.name,
        parameters={"train.seed": 7},
        metrics={"evaluate/elbo_nats": 1.0},
        tags={"git.commit": "none", **registry.manifest_tag(bundle)},
        datasets={"data/surfaces": "0" * 32 + ".dir"},
        artifacts={bundle: registry.BUNDLE},
        texts={"lineage/params.yaml": "text"},
        decoder=bundle / DECODER,
    )


def register_versions(bundle: Path, _: Strike) -> None:
    """Versions 1 to 3, of which 2 is champion after 1; a bundle for the next; the folder of a fetch of version 1."""
    bundles = [_variant(bundle, Path("bundles") / name) for name in "abcd"]
    with registry.opened(model=_MODEL, experiment=_MODEL) as models:
        versions = [models.register(_record(bundle)) for bundle in bundles[:3]]
        for version in versions:
            models.judge(version, accepted=True, reason="good", tags={})
        models.promote(versions[0])
        models.promote(versions[1])
        models.fetch(versions[0], Path("fetched"))


def _variant(bundle: Path, folder: Path) -> Path:
    """A copy of a bundle whose decoder has other bytes."""
    shutil.copytree(bundle, folder)
    graph = onnx.load(folder / DECODER)
    graph.doc_string = folder.name
    (folder / DECODER).write_bytes(graph.SerializeToString())
    manifest, content = formats.read_json(folder / MANIFEST), (folder / DECODER).read_bytes()
    manifest["files"][DECODER] = {"sha256": formats.sha256(content), "bytes": len(content)}
    formats.write_json(folder / MANIFEST, manifest)
    return folder


def opened() -> AbstractContextManager[Registry]:
    """The registry of the current folder."""
    settings = read_params().register_
    return registry.opened(model=settings.model, experiment=settings.experiment)


def _register(strike: Strike) -> None:
    with strike, opened() as models:
        version = models.register(_record(Path("bundles/d")))
        models.judge(version, accepted=True, reason="good", tags={"gate.check": "pass"})


def _registered(_: Strike | None = None) -> dict[str, object]:
    """Contents of the versions, aliases and the line of champions; the files of each version are verified."""
    with opened() as models:
        versions = sorted(models._client.search_model_versions(f"name = '{_MODEL}'"), key=lambda v: int(v.version))
        for version in versions:
            models.load(models.find(str(version.version)))
        champion, challenger = models.find(CHAMPION), models.find(CHALLENGER)
        contents = [version.tags["volvae.content"] for version in versions]
        changes = [(entry.action, entry.version, entry.former) for entry in models.history()]
        line = [champion.number, models._champions.line(champion.number), changes]
        return {"versions": contents, "challenger": challenger.number, "champion": line}


@functools.cache
def _metrics() -> Metrics:
    """The counters, of which a process has one."""
    return Metrics()


def _exchange(strike: Strike) -> str:
    """A server exchanges its model for a new champion, by the two looks that it takes from time to time.

    Raises:
        RuntimeError: what it serves is not a whole version, or the next looks do not bring the new one.
    """
    mirror = _Mirror(Path(tempfile.mkdtemp()), _MODEL, CHAMPION)
    mirror.update()
    trials = Trials(Path(tempfile.mkdtemp()))
    for path in Path("bundles").iterdir():
        trials.note_fit(fingerprint(path))  # no fault concerns a trial
    follower = Follower(champion(mirror.link, _metrics()), provider="cpu", threads=1, trials=trials)
    follower.refresh()
    with opened() as models:
        models.promote(models.find("3"))
    with strike:
        _look(mirror, follower)
    _check_served(follower, "2", "3")
    _look(mirror, follower)
    _check_served(follower, "3")
    return follower.served.version


def _look(mirror: _Mirror, follower: Follower) -> None:
    with contextlib.suppress(Exception):  # as the thread does, which logs it
        mirror.update()
    follower.refresh()


def _check_served(follower: Follower, *allowed: str) -> None:
    version, decoder = follower.served.version, follower.served.model._graphs[DECODER]._content
    expected = (Path("bundles") / " abc"[int(version)] / DECODER).read_bytes()
    if version not in allowed or decoder != expected:
        raise RuntimeError(f"version {version} is served, with its own decoder: {decoder == expected}")


_OF_REGISTRY: Mapping[str, Transaction] = {
    "register": Transaction(_register, _registered),
    "promote": Transaction(_command("promote", "3"), _registered),
    "rollback": Transaction(_command("rollback"), _registered, remains=True),
    "fetch": Transaction(_command("fetch", "-o", "fetched"), partial(written, ["fetched"])),
    "exchange": Transaction(_exchange, _registered),
}
NAMES = (*PATHS, *_OF_REGISTRY)
