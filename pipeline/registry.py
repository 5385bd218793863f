"""The MLflow registry: runs, model versions, aliases. The only module that imports mlflow."""

import logging
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from pipeline import telemetry
from pipeline.errors import StageError

telemetry.switch_off()  # before mlflow is imported, which reads the switches then

import mlflow  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.models import ModelSignature  # noqa: E402
from mlflow.types import Schema, TensorSpec  # noqa: E402

DEFAULT_STORE = "sqlite:///mlflow.db"
_ARTIFACTS = Path("mlartifacts")
_CONTENT = "volvae.content"
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
        artifacts: local path -> folder of the run's artifacts.
        texts: file name -> text, stored among the artifacts.
        decoder: the ONNX file that becomes the registered model.
    """

    content: str
    parameters: Mapping[str, object]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: Mapping[Path, str]
    texts: Mapping[str, str]
    decoder: Path


class Registered(NamedTuple):
    """A version of a registered model."""

    model: str
    version: str
    alias: str
    run_id: str
    store: str


def register(record: Record, *, experiment: str, model: str, alias: str) -> Registered:
    """Log a run and register its decoder, unless a version with the same content exists; then move the alias to it.

    Raises:
        StageError: the tracking store cannot be reached or refuses.
    """
    store = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(store)
    try:
        client = mlflow.MlflowClient()
        known = _find(client, model, record.content)
        number, run_id = known or _log(client, record, experiment=experiment, model=model)
        client.set_registered_model_alias(model, alias, number)
    except (MlflowException, OSError) as error:
        raise StageError(f"the MLflow store {store} refused: {str(error).splitlines()[0]}") from error
    return Registered(model, number, alias, run_id, store)


def _find(client: mlflow.MlflowClient, model: str, content: str) -> tuple[str, str] | None:
    """Version and run that registered this content before."""
    found = client.search_model_versions(f"name = '{model}' and tags.`{_CONTENT}` = '{content}'")
    return (str(found[0].version), str(found[0].run_id)) if found else None


def _log(client: mlflow.MlflowClient, record: Record, *, experiment: str, model: str) -> tuple[str, str]:
    """Log the run, then register its decoder; the new version and the run."""
    tags = {**record.tags, _CONTENT: record.content}
    with mlflow.start_run(experiment_id=_experiment(client, experiment), tags=tags) as run:
        mlflow.log_params(dict(record.parameters))
        mlflow.log_metrics(dict(record.metrics))
        for path, folder in record.artifacts.items():
            (mlflow.log_artifacts if path.is_dir() else mlflow.log_artifact)(str(path), folder)
        for name, text in record.texts.items():
            mlflow.log_text(text, name)
        uri = _log_decoder(record.decoder)
    registered = mlflow.register_model(uri, model, tags=tags)
    return str(registered.version), str(run.info.run_id)


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
        pip_requirements=[f"{name}=={version(name)}" for name in ("onnx", "numpy")] + ["onnxruntime"],
        save_as_external_data=False,
    )
    return str(logged.model_uri)


def _experiment(client: mlflow.MlflowClient, name: str) -> str:
    """Identifier of the experiment, made where it is new; a local store keeps its artifacts beside itself."""
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    local = mlflow.get_tracking_uri().startswith("sqlite:")
    location = _ARTIFACTS.absolute().as_uri() if local else None
    return str(client.create_experiment(name, artifact_location=location))
