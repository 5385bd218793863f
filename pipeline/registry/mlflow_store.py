"""An MLflow store: opening it, its runs with their artifacts, its model versions. The only module that imports mlflow.

Opening a store changes nothing that the process shares, such as the working directory or MLflow's global address, so
that threads can work with several stores at once.
"""

import contextlib
import errno
import getpass
import importlib
import json
import logging
import os
import re
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import telemetry
from pipeline.credentials import without_credentials
from pipeline.errors import StageError
from pipeline.files.atomic import sync_all
from pipeline.registry import embedded_store
from pipeline.registry.embedded_store import EmbeddedStore

telemetry.switch_off()  # before mlflow is imported, which reads the switches then
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # seven, each twice as long, are minutes of silence
os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")  # a server may ask to wait for an hour
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
for _direction in ("UPLOAD", "DOWNLOAD"):  # by the server: its bucket may be out of reach from here
    os.environ.setdefault(f"MLFLOW_ENABLE_PROXY_MULTIPART_{_direction}", "false")

import mlflow  # noqa: E402
import numpy as np  # noqa: E402
from mlflow.data.code_dataset_source import CodeDatasetSource  # noqa: E402
from mlflow.data.meta_dataset import MetaDataset  # noqa: E402
from mlflow.entities import DatasetInput, LoggedModel, LoggedModelOutput, Metric, Param, Run  # noqa: E402
from mlflow.entities.model_registry import ModelVersion, RegisteredModel  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.models import Model  # noqa: E402
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: E402
from mlflow.tracking.context.registry import resolve_tags  # noqa: E402
from mlflow.types import Schema, TensorSpec  # noqa: E402
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

ERRORS = (MlflowException, SQLAlchemyError, OSError)  # raised by a store that cannot be reached or refuses
DEFAULT_STORE = "sqlite:///mlflow.db"
CONTENT = "volvae.content"  # tag of runs and versions: identifies what was registered
_MODEL_URI = "volvae.model_uri"  # tag that a run gets last: a run with it is complete
_LONGEST_REASON = 400  # characters
_NUMBER = re.compile(r"[0-9]{1,18}")  # of a version; SQLite takes no longer ones
_SYNCS = 3  # of a transaction of SQLite's that are tried
# They log the errors that they raise, with tracebacks.
_NOISY = ("alembic", "mlflow.store", "mlflow.tracking", "mlflow.utils", "mlflow.models", "mlflow.onnx", "sqlalchemy")
_BACKGROUND = re.compile(r" \(Background on this error at: \S+\)")  # with which SQLAlchemy ends its messages
_alone = threading.Lock()  # held by a thread while it makes a store or silences warnings


class RunRecord(NamedTuple):
    """The content of an MLflow run: one model, its figures and the data and code that made it.

    Attributes:
        content: identifies bundle, data, models and the settings that shaped them; it is registered once.
        parameters, metrics, tags: flat.
        datasets: path -> digest of the data that the model was made from.
        artifacts: local path -> folder among the run's artifacts.
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


class Store:
    """An open store.

    Attributes:
        address: of the store, without credentials.
        client: MLflow's client for this store.
    """

    def __init__(self, uri: str, *, address: str, embedded: EmbeddedStore | None) -> None:
        self.address, self.client = address, _Answering(_answer(mlflow.MlflowClient, uri))
        self._uri, self._embedded = uri, embedded

    def log(self, experiment: str, record: RunRecord) -> LoggedModel:
        """Log a run and its decoder, or find those that an earlier attempt logged completely before it was killed."""
        number = self._experiment(experiment)
        return self._logged_before(number, record.content) or self._log_run(number, record)

    def add_version(self, name: str, model: LoggedModel, tags: Mapping[str, str]) -> ModelVersion:
        """Add a version with these tags to a registered model, which is made where it is new."""
        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # MLflow would look for models:/ID of an SQLite store at its global address; the location needs no look-up.
        source = model.artifact_location if self._embedded else model.model_uri
        self.client.create_model_version(name, source, model.source_run_id, tags=dict(tags), model_id=model.model_id)
        version = self._first_version(name, model.source_run_id)
        versions = json.loads(model.tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
        versions.append({"name": name, "version": version.version})
        self.client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(versions)})
        return version

    def _first_version(self, name: str, run_id: str) -> ModelVersion:
        """The version of a run, without others: a client that lost the server's answer asks for a version again."""
        found = self.client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        first, *others = sorted(found, key=lambda version: int(version.version))
        for other in others:
            self.client.delete_model_version(name, other.version)
        return first

    def find_version(self, name: str, version: str) -> ModelVersion | None:
        """The version with this number or alias; None where there is none."""
        try:
            if _NUMBER.fullmatch(version):
                return self.client.get_model_version(name, version)
            return self.client.get_model_version_by_alias(name, version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def find_model(self, name: str) -> RegisteredModel | None:
        """The registered model of this name, with its tags and aliases; None where there is none."""
        try:
            return self.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def figures(self, run_id: str) -> dict[str, float]:
        """The metrics of a run, by stage and name, such as ``evaluate/elbo_nats``."""
        return dict(self.client.get_run(run_id).data.metrics)

    def download(self, run_id: str, path: str, into: Path) -> Path:
        """Copy a file or folder among the artifacts of a run into a local folder; its path there."""
        artifacts = self._repository(self.client.get_run(run_id).info.artifact_uri)
        return Path(artifacts.download_artifacts(path, str(into)))

    def alone(self) -> AbstractContextManager[None]:
        """Keep other processes that ask for it out of an embedded store; a server has no such lock.

        Raises:
            StageError: another one holds it for minutes.
        """
        return self._embedded.alone(self.address) if self._embedded else contextlib.nullcontext()

    def attach(self, run_id: str, path: Path, folder: str) -> None:
        """Copy a file into a folder among the artifacts of a run."""
        self._repository(self.client.get_run(run_id).info.artifact_uri).log_artifact(str(path), folder)

    def _experiment(self, name: str) -> str:
        """Identifier of the experiment, made where it is new."""
        found = self.client.get_experiment_by_name(name)
        if found:
            return str(found.experiment_id)
        location = embedded_store.ARTIFACTS if self._embedded else None
        number = str(self.client.create_experiment(name, artifact_location=location))
        if self._embedded:
            self._embedded.make_relative(number)
        return number

    def _logged_before(self, experiment: str, content: str) -> LoggedModel | None:
        """The model of a complete run with this content; incomplete ones, which a killed process left, are closed."""
        runs = self.client.search_runs([experiment], f"tags.`{CONTENT}` = '{content}'")
        for run in runs:
            if run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "KILLED")
        complete = [run.data.tags[_MODEL_URI] for run in runs if _MODEL_URI in run.data.tags]
        return self.client.get_logged_model(complete[0].removeprefix("models:/")) if complete else None

    def _log_run(self, experiment: str, record: RunRecord) -> LoggedModel:
        with self._run(experiment, {**record.tags, CONTENT: record.content}) as run:
            number, files = run.info.run_id, self._repository(run.info.artifact_uri)
            parameters = {name: str(value) for name, value in record.parameters.items()}
            model = self.client.create_logged_model(experiment, name="decoder", source_run_id=number, params=parameters)
            self._log_values(number, record, parameters, model)
            for path, folder in record.artifacts.items():
                (files.log_artifacts if path.is_dir() else files.log_artifact)(str(path), folder)
            with tempfile.TemporaryDirectory(prefix="volvae-") as folder:
                for name, text in record.texts.items():
                    (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                    (Path(folder) / name).write_text(text, "utf-8")
                files.log_artifacts(folder)
            self._log_decoder(record.decoder, model)
            self._sync(run.info.artifact_uri, model.artifact_location)
            self.client.set_tag(number, _MODEL_URI, model.model_uri)
        return model

    @contextlib.contextmanager
    def _run(self, experiment: str, tags: Mapping[str, str]) -> Iterator[Run]:
        """A run that ends with the block."""
        run = self.client.create_run(experiment, tags=resolve_tags(dict(tags)))
        try:
            yield run
        except BaseException:
            with contextlib.suppress(*ERRORS):
                self.client.set_terminated(run.info.run_id, "FAILED")
            raise
        self.client.set_terminated(run.info.run_id)

    def _log_values(self, run_id: str, record: RunRecord, parameters: Mapping[str, str], model: LoggedModel) -> None:
        """Log parameters, metrics and the names of data sets; the metrics are those of the model as well."""
        now = int(1e3 * datetime.now(UTC).timestamp())
        self.client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0, model_id=model.model_id) for name, value in record.metrics.items()],
            params=[Param(name, value) for name, value in parameters.items()],
        )
        datasets = []
        for name, digest in record.datasets.items():
            source = CodeDatasetSource({"dvc.path": name, "git.commit": record.tags["git.commit"]})
            dataset = MetaDataset(source, name=name, digest=digest)
            datasets.append(DatasetInput(dataset._to_mlflow_entity()))  # noqa: SLF001  MLflow has no public way
        self.client.log_inputs(run_id, datasets)

    def _log_decoder(self, decoder: Path, model: LoggedModel) -> None:
        """Store the decoder as MLflow's model of the run that made it."""
        self._log_output(model)
        with tempfile.TemporaryDirectory(prefix="volvae-") as folder:
            _save_decoder(decoder, Path(folder) / "model", model)
            self._repository(model.artifact_location).log_artifacts(str(Path(folder) / "model"))
        self.client.finalize_logged_model(model.model_id, "READY")

    def _log_output(self, model: LoggedModel) -> None:
        """Say which run made a model. MLflow refuses to hear it twice, as from a client whose answer was lost."""
        try:
            self.client.log_outputs(model.source_run_id, [LoggedModelOutput(model.model_id, step=0)])
        except MlflowException:
            known = self.client.get_run(model.source_run_id).outputs.model_outputs
            if model.model_id not in {output.model_id for output in known}:
                raise

    def _sync(self, *locations: str) -> None:
        """Make files of an embedded store survive a power failure, as what its database says of them does."""
        for location in locations:
            if self._embedded and (folder := self._embedded.folder(location)):
                sync_all(folder)

    def _repository(self, location: str) -> Any:  # noqa: ANN401  MLflow has no types
        """The files at a location, which in an embedded store is relative to its folder."""
        if self._embedded and (folder := self._embedded.folder(location)):
            location = folder.as_uri()
        return _Answering(_answer(get_artifact_repository, location, tracking_uri=self._uri))


class _Answering:
    """MLflow's client or files, whose calls fail by one of ERRORS, and ask again where a sync of SQLite's failed.

    A signal can interrupt a sync of SQLite's, and the error does not say so. If it was the sync of a file, SQLite takes
    back all of the transaction: the call is made again, and nothing is changed twice. (A call of several transactions
    may leave an empty run.) If it was the sync of the folder, the transaction may stand: the call is not made again.
    """

    def __init__(self, asked: object) -> None:
        self._asked = asked

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  MLflow's client has no types
        call = getattr(self._asked, name)

        def persistent(*arguments: object, **named: object) -> object:
            for _ in range(_SYNCS - 1):
                try:
                    return _answer(call, *arguments, **named)
                except MlflowException as error:
                    if not _lacks_sync(error):
                        raise
            return _answer(call, *arguments, **named)

        return persistent


def _answer(call: Callable[..., Any], *arguments: object, **named: object) -> Any:  # noqa: ANN401  MLflow has no types
    """The result of a call of MLflow's, which fails by one of ERRORS.

    Libraries below MLflow, of buckets, databases and messages, have errors of their own: of missing keys, of a module
    that is not installed, of an answer by another server than MLflow's.
    """
    try:
        return call(*arguments, **named)
    except ERRORS:
        raise
    except ModuleNotFoundError as error:
        raise MlflowException(f"the Python module {error.name} is not installed, and this store needs it") from error
    except Exception as error:
        raise MlflowException(f"{type(error).__name__}: {error}") from error


def _lacks_sync(error: MlflowException) -> bool:
    """Whether a sync of a file of SQLite's failed, which takes back the transaction."""
    refusal = getattr(error.__cause__, "orig", None)  # of SQLAlchemy's error, which MLflow's is made from
    return getattr(refusal, "sqlite_errorname", "") == "SQLITE_IOERR_FSYNC"


@contextlib.contextmanager
def opened() -> Iterator[Store]:
    """The store at MLFLOW_TRACKING_URI, or the one embedded in the current folder.

    Raises:
        StageError: the store cannot be reached or refuses.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
    address, embedded = without_credentials(uri), embedded_store.at(uri)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        if embedded:
            with _alone:
                embedded.create(lambda begun: mlflow.MlflowClient(begun).search_experiments(max_results=1))
        yield Store(embedded.uri if embedded else uri, address=address, embedded=embedded)
    except ERRORS as error:
        raise StageError(f"the MLflow store {address} refused: {reason(error)}") from error


def user() -> str:
    """Name of the user and of the machine."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # of a container, whose user has no name
        name = f"user {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def reason(error: Exception) -> str:
    """The message of an error in one line; of a long one the start and the end, where the cause stands."""
    cause = getattr(error, "orig", None) or error  # the database's own words, without the statement
    text = without_credentials(_BACKGROUND.sub("", " ".join(str(cause).split())))
    half = _LONGEST_REASON // 2
    return text if len(text) <= _LONGEST_REASON else f"{text[:half]} ... {text[-half:]}"


def is_full(error: Exception) -> bool:
    """Whether a disk was full; MLflow puts such an error into the text of its own."""
    return os.strerror(errno.ENOSPC) in str(error) or os.strerror(errno.EDQUOT) in str(error)


def _save_decoder(decoder: Path, folder: Path, model: LoggedModel) -> None:
    """Write an ONNX decoder to a folder in MLflow's format, with its signature and an input example."""
    # Only a registration needs these: the image of the server has no onnx, nor pandas, which signatures import.
    import onnx  # noqa: PLC0415
    from mlflow.models import ModelSignature  # noqa: PLC0415

    with _alone, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints
        importlib.import_module("mlflow.pyfunc")
    graph = onnx.load(decoder)
    latents = graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    output = graph.graph.output[0]
    shape = [d.dim_value for d in output.type.tensor_type.shape.dim[1:]]  # of a surface or a vector
    single = np.dtype(np.float32)
    mlflow.onnx.save_model(
        graph,
        folder,
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            run_id=model.source_run_id,
            model_id=model.model_id,
        ),
        signature=ModelSignature(
            inputs=Schema([TensorSpec(single, (-1, latents), "z")]),
            outputs=Schema([TensorSpec(single, (-1, *shape), output.name)]),
        ),
        input_example={"z": np.zeros((2, latents), np.float32)},
        # Named here because the default names the CPU wheel even where the GPU wheel is installed.
        pip_requirements=[f"{name}=={package_version(name)}" for name in ("onnx", "numpy")] + ["onnxruntime"],
        save_as_external_data=False,
    )
