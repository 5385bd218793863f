"""The MLflow registry: runs, versions and their files, the champion. The only module that imports mlflow.

Two aliases name versions: ``challenger`` is the newest, ``champion`` the one that applications should load. A version
that becomes champion remembers which one it succeeds, so that one command goes back.
"""

import contextlib
import hashlib
import logging
import os
import re
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from pipeline import telemetry
from pipeline.errors import InputError, StageError
from pipeline.files.atomic import copy_folder
from vae.bundle import MANIFEST
from vae.runtime import BundleError, SurfaceModel

telemetry.switch_off()  # before mlflow is imported, which reads the switches then
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # seven, each twice as long, are minutes of silence
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
from mlflow.data.code_dataset_source import CodeDatasetSource  # noqa: E402
from mlflow.data.meta_dataset import MetaDataset  # noqa: E402
from mlflow.entities.model_registry import ModelVersion  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.models import ModelSignature  # noqa: E402
from mlflow.types import Schema, TensorSpec  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

DEFAULT_STORE = "sqlite:///mlflow.db"
CHALLENGER, CHAMPION = "challenger", "champion"
BUNDLE, LINEAGE = "bundle", "lineage"  # folders of a run's artifacts
_ARTIFACTS = "mlartifacts"  # beside an embedded store
_CONTENT, _LOGGED, _MANIFEST = "volvae.content", "volvae.model_uri", "volvae.manifest_sha256"
_SUCCEEDS, _ROLLED_BACK, _VERDICT, _REASON = (
    "volvae.succeeds", "volvae.rolled_back", "gate.verdict", "gate.reason",
)  # fmt: skip
_ACCEPTED, _REFUSED = "accepted", "refused"
_NOISY = (
    "alembic",
    "mlflow.store.db.utils",
    "mlflow.tracking",
    "mlflow.utils",
    "mlflow.models",
    "mlflow.onnx",
)


class Record(NamedTuple):
    """What a run says of a model.

    Attributes:
        content: identifies data, parameters and bundle; the same content is registered once.
        parameters, metrics, tags: flat.
        datasets: path -> digest, what the model was made from.
        artifacts: local path -> folder of the run's artifacts.
        texts: file name -> text, stored among the artifacts.
        decoder: the ONNX file that becomes the registered model.
    """

    content: str
    parameters: Mapping[str, object]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    datasets: Mapping[str, str]
    artifacts: Mapping[Path, str]
    texts: Mapping[str, str]
    decoder: Path


class Version(NamedTuple):
    """A version of the registered model.

    Attributes:
        number: as MLflow counts them.
        run_id: of the run that made it.
        created: when it was registered.
        tags: what it says of itself.
    """

    number: str
    run_id: str
    created: datetime
    tags: Mapping[str, str]

    @property
    def refused(self) -> str | None:
        """Why the gate refused it; None where it did not."""
        return self.tags.get(_REASON, "") if self.tags.get(_VERDICT) == _REFUSED else None

    @property
    def rolled_back(self) -> bool:
        """Whether it was champion and somebody went back."""
        return _ROLLED_BACK in self.tags


class Registry:
    """One registered model of one store.

    Attributes:
        store: its address, without a password.
        model: its name.
    """

    def __init__(self, client: mlflow.MlflowClient, *, store: str, model: str, experiment: str) -> None:
        self.store, self.model, self.experiment = store, model, experiment
        self._client = client

    def register(self, record: Record) -> Version:
        """Log a run and register its decoder as the challenger, unless a version with the same content exists."""
        found = self._client.search_model_versions(f"name = '{self.model}' and tags.`{_CONTENT}` = '{record.content}'")
        version = _version(found[0]) if found else self._add(record)
        self._client.set_registered_model_alias(self.model, CHALLENGER, version.number)
        return version

    def find(self, name: str) -> Version:
        """The version of this number or alias.

        Raises:
            InputError: there is none.
        """
        found = self.get(name)
        if found is None:
            raise InputError(f"{self.model} has no version {name!r} in {self.store}; it has {self._known()}")
        return found

    def get(self, name: str) -> Version | None:
        """The version of this number or alias; None where there is none."""
        try:
            if name.isdigit():
                return _version(self._client.get_model_version(self.model, name))
            return _version(self._client.get_model_version_by_alias(self.model, name))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def judge(self, version: Version, *, accepted: bool, reason: str, tags: Mapping[str, str]) -> None:
        """Keep the verdict of the gate on a version, and the figures it rests on."""
        verdict = _ACCEPTED if accepted else _REFUSED
        for name, value in {**tags, _REASON: reason, _VERDICT: verdict}.items():
            self._client.set_model_version_tag(self.model, version.number, name, value)

    def promote(self, version: Version) -> Version | None:
        """Make a version champion; the one it succeeds. The alias moves last, after the files are verified.

        Raises:
            StageError: the files are not those that were registered.
        """
        self.load(version)
        former = self.get(CHAMPION)
        if former is not None and former.number == version.number:
            return former
        if former is not None:
            self._client.set_model_version_tag(self.model, version.number, _SUCCEEDS, former.number)
        if version.rolled_back:
            self._client.delete_model_version_tag(self.model, version.number, _ROLLED_BACK)
        self._client.set_registered_model_alias(self.model, CHAMPION, version.number)
        return former

    def roll_back(self) -> tuple[Version, Version]:
        """Make the champion's predecessor champion again; the version that it leaves and the one that it returns to.

        Raises:
            InputError: there is no champion, or it has no predecessor.
            StageError: the predecessor's files are not those that were registered.
        """
        champion = self.find(CHAMPION)
        number = champion.tags.get(_SUCCEEDS)
        if number is None:
            raise InputError(
                f"{self.model} version {champion.number} is the first champion; there is none to go back to"
            )
        former = self.find(number)
        self.load(former)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._client.set_model_version_tag(self.model, champion.number, _ROLLED_BACK, now)
        self._client.set_registered_model_alias(self.model, CHAMPION, former.number)
        return champion, former

    @contextlib.contextmanager
    def files(self, version: Version, kind: str) -> Iterator[Path]:
        """A folder with the files of a version, ``BUNDLE`` or ``LINEAGE``, while the block runs.

        Raises:
            StageError: they are gone.
        """
        with tempfile.TemporaryDirectory(prefix="volvae-") as folder:
            try:
                found = Path(mlflow.artifacts.download_artifacts(
                    run_id=version.run_id, artifact_path=kind, dst_path=folder
                ))  # fmt: skip
            except (MlflowException, OSError) as error:
                what = f"{kind} of {self.model} version {version.number}"
                raise StageError(f"the {what} cannot be read from {self.store}: {_line(error)}") from error
            yield found

    def load(self, version: Version) -> SurfaceModel:
        """The model of a version.

        Raises:
            StageError: its files are gone, or not those that were registered.
        """
        with self.files(version, BUNDLE) as folder:
            return self._verified(folder, version)

    def fetch(self, version: Version, folder: Path) -> None:
        """Put the bundle of a version in place of ``folder``, whole or not at all.

        Raises:
            InputError: the folder cannot be written, or is something else.
            StageError: the files are gone, or not those that were registered.
        """
        if folder.exists() and not (folder / MANIFEST).exists() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty and holds no bundle; name another folder")
        with self.files(version, BUNDLE) as found:
            self._verified(found, version)
            copy_folder(found, folder)

    def _verified(self, folder: Path, version: Version) -> SurfaceModel:
        """The model in a folder, if its files are those that were registered."""
        what = f"{BUNDLE} of {self.model} version {version.number}"
        try:
            tag = manifest_tag(folder)
            model = SurfaceModel.load(folder, provider="cpu", threads=1)  # checks every file against the manifest
        except (OSError, BundleError) as error:
            raise StageError(f"the {what} is damaged: {_line(error)}") from error
        if _MANIFEST in version.tags and not tag.items() <= version.tags.items():
            raise StageError(f"the {what} is not what was registered: its {MANIFEST} has another checksum")
        return model

    def _known(self) -> str:
        """All versions in words."""
        found = self._client.search_model_versions(f"name = '{self.model}'")
        numbers = sorted(int(version.version) for version in found)
        return f"versions {', '.join(map(str, numbers))}" if numbers else "none; `dvc repro` registers one"

    def _add(self, record: Record) -> Version:
        """A new version, from a run that an earlier attempt completed or from a new one."""
        tags = {**record.tags, _CONTENT: record.content}
        uri = self._completed(record.content) or self._log(record, tags)
        return _version(mlflow.register_model(uri, self.model, tags=tags))

    def _completed(self, content: str) -> str | None:
        """The model of a run that was logged whole before a killed process could register it; others are closed."""
        experiment = self._client.get_experiment_by_name(self.experiment)
        if experiment is None:
            return None
        runs = self._client.search_runs([experiment.experiment_id], f"tags.`{_CONTENT}` = '{content}'")
        for run in runs:
            if run.info.status == "RUNNING":
                self._client.set_terminated(run.info.run_id, "KILLED")
        whole = [run.data.tags[_LOGGED] for run in runs if _LOGGED in run.data.tags]
        return whole[0] if whole else None

    def _log(self, record: Record, tags: Mapping[str, str]) -> str:
        """Log the run; the URI of its model."""
        with mlflow.start_run(experiment_id=self._experiment(), tags=dict(tags)):
            mlflow.log_params(dict(record.parameters))
            mlflow.log_metrics(dict(record.metrics))
            for name, digest in record.datasets.items():
                source = CodeDatasetSource({"dvc.path": name, "git.commit": record.tags["git.commit"]})
                mlflow.log_input(MetaDataset(source, name=name, digest=digest))
            for path, folder in record.artifacts.items():
                (mlflow.log_artifacts if path.is_dir() else mlflow.log_artifact)(str(path), folder)
            for name, text in record.texts.items():
                mlflow.log_text(text, name)
            uri = _log_decoder(record.decoder)
            mlflow.set_tag(_LOGGED, uri)  # last: what has it is whole
        return uri

    def _experiment(self) -> str:
        """Identifier of the experiment, made where it is new.

        MLflow makes the place of its artifacts absolute; an embedded store gets it back relative to its folder, so
        that both move together.
        """
        found = self._client.get_experiment_by_name(self.experiment)
        if found:
            return str(found.experiment_id)
        embedded = _embedded(mlflow.get_tracking_uri())
        number = str(
            self._client.create_experiment(self.experiment, artifact_location=_ARTIFACTS if embedded else None)
        )
        if embedded:
            with contextlib.closing(sqlite3.connect(embedded)) as database, database:
                database.execute(
                    "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (_ARTIFACTS, number)
                )
        return number


@contextlib.contextmanager
def opened(*, model: str, experiment: str) -> Iterator[Registry]:
    """The registry at MLFLOW_TRACKING_URI, or the one embedded in the current folder.

    Inside the block the current folder is that of an embedded store: paths must be absolute.

    Raises:
        StageError: the store cannot be reached or refuses.
    """
    asked = os.environ.get("MLFLOW_TRACKING_URI")
    uri = asked or DEFAULT_STORE
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    embedded = _embedded(uri)
    store = _without_password(uri)
    try:
        with contextlib.chdir(embedded.parent) if embedded else contextlib.nullcontext(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's, of its own type hints and integers
            if embedded and not embedded.exists():
                _create(embedded)
            mlflow.set_tracking_uri(f"sqlite:///{embedded}" if embedded else uri)
            yield Registry(mlflow.MlflowClient(), store=store, model=model, experiment=experiment)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise StageError(f"the MLflow store {store} refused: {_line(error)}") from error
    finally:
        mlflow.set_tracking_uri(asked)  # MLflow keeps it in the environment, which children inherit


def _create(store: Path) -> None:
    """An embedded store that is there whole or not at all: MLflow cannot mend one that a killed process began."""
    for left in store.parent.glob(f".{store.name}.*"):
        left.unlink()
    begun = store.with_name(f".{store.name}.{uuid4()}")  # MLflow keeps what it opened by name
    mlflow.MlflowClient(f"sqlite:///{begun}").search_experiments(max_results=1)
    begun.replace(store)


def _embedded(uri: str) -> Path | None:
    """The file of an SQLite store; None where the store is a server."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def _without_password(text: str) -> str:
    """The same with passwords in addresses hidden."""
    return re.sub(r"(://[^:/@\s]*):[^@/\s]+@", r"\1:***@", text)


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    cause = getattr(error, "orig", None) or error  # the database's own words, without the statement
    text = _without_password(" ".join(str(cause).split()))
    return text if len(text) <= 300 else f"{text[:300]} ..."


def _version(found: ModelVersion) -> Version:
    created = datetime.fromtimestamp(found.creation_timestamp / 1000.0, UTC)
    return Version(str(found.version), str(found.run_id), created, dict(found.tags))


def manifest_tag(folder: Path) -> dict[str, str]:
    """The tag that ties a version to the files of its bundle."""
    return {_MANIFEST: hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()}


def _log_decoder(path: Path) -> str:
    """Log the decoder with signature and input example; its model URI."""
    graph = onnx.load(path)
    latents = graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    surface = [d.dim_value for d in graph.graph.output[0].type.tensor_type.shape.dim[1:]]
    single = np.dtype(np.float32)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(single, (-1, latents), "z")]),
        outputs=Schema([TensorSpec(single, (-1, *surface), "iv")]),
    )
    logged = mlflow.onnx.log_model(
        graph,
        name="decoder",
        signature=signature,
        input_example={"z": np.zeros((2, latents), np.float32)},
        # Named here because the default names the CPU wheel even where the GPU wheel is installed.
        pip_requirements=[f"{name}=={package_version(name)}" for name in ("onnx", "numpy")] + ["onnxruntime"],
        save_as_external_data=False,
    )
    return str(logged.model_uri)
