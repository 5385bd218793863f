"""The stage register: one MLflow run and one model version for each distinct bundle, data and parameters."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import files, lineage, registry
from pipeline.atomic import check_writable
from pipeline.params import Params
from vae.bundle import DECODER
from vae.runtime import SurfaceModel


def main(
    params: Params,
    *,
    surfaces: Path,
    model: Path,
    bundle: Path,
    page: Path,
    prepare_metrics: Path,
    train_metrics: Path,
    evaluate_metrics: Path,
    export_metrics: Path,
    metrics: Path,
) -> None:
    """Register the bundle and write where it is to ``metrics``."""
    check_writable(metrics)
    SurfaceModel.load(bundle, provider="cpu")  # refuses a damaged bundle before anything is logged
    measured = {p.stem: p for p in (prepare_metrics, train_metrics, evaluate_metrics, export_metrics)}
    hashes = lineage.dvc_hashes(surfaces, model, bundle)
    git = lineage.git()
    settings = flatten(params.model_dump(mode="json", by_alias=True, exclude_none=True))
    record = registry.Record(
        content=files.sha256(json.dumps([hashes, settings], sort_keys=True).encode()),
        parameters=settings,
        metrics=_numbers(measured),
        tags={
            "git.commit": git.commit or "none",
            "git.dirty": str(git.dirty).lower(),
            **{f"dvc.{path}": digest for path, digest in hashes.items()},
            **{f"version.{name}": number for name, number in lineage.versions().items()},
        },
        artifacts={bundle: "bundle", page: "report", lineage.LOCK: "lineage"},
        texts={"lineage/git.patch": lineage.git_patch()} if git.dirty else {},
        decoder=bundle / DECODER,
    )
    settings_block = params.register_
    registered = registry.register(
        record, experiment=settings_block.experiment, model=settings_block.model, alias=settings_block.alias
    )
    files.write_json(metrics, registered._asdict())


def _numbers(measured: Mapping[str, Path]) -> dict[str, float]:
    """The figures of each stage that are numbers: MLflow's metrics are nothing else."""
    figures = {f"{stage}/{k}": v for stage, path in measured.items() for k, v in files.read_json(path).items()}
    return {name: value for name, value in figures.items() if isinstance(value, int | float)}


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat
