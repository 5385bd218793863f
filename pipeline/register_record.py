"""The record that a version is registered with: settings, figures, and the lineage as tags and files."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import listed
from pipeline.files import formats
from pipeline.registry import attestation, dvc_lock, git_state, lineage, registry
from pipeline.registry.mlflow_store import RunRecord, user
from pipeline.settings.params import Params
from vae.bundle import DECODER


def make_record(
    params: Params, measured: Mapping[str, Path], figures: Mapping[str, Mapping[str, Any]], *, bundle: Path
) -> RunRecord:
    """The record of a run: settings, figures, and the lineage as tags and files.

    Args:
        params: all settings.
        measured: stage -> file of its metrics.
        figures: stage -> what that file holds.
        bundle: folder of the bundle.
    """
    settings = dvc_lock.flatten(params.model_dump(mode="json", by_alias=True, exclude_none=True))
    stages, git = dvc_lock.recorded(), git_state.read()
    patch = git_state.patch() if git.dirty else git_state.Patch()
    if patch.left_out:
        print(
            f"register: the patch of uncommitted changes leaves out {listed(patch.left_out)}, which are no code or too "
            f"large; commit them if the version needs them",
            file=sys.stderr,
        )
    hashes = dvc_lock.data_hashes(stages)
    runs = {stage: run for stage, path in measured.items() if (run := lineage.run_of(stage, path))}
    folders = {
        bundle: registry.BUNDLE,
        dvc_lock.LOCK: registry.LINEAGE,
        lineage.REQUIREMENTS: registry.LINEAGE,
    }
    content = identity(stages, params)
    texts = {
        "params.yaml": Path("params.yaml").read_text("utf-8"),
        lineage.RUNS: json.dumps({stage: run._asdict() for stage, run in runs.items()}, indent=2),
        lineage.PATCH: patch.text,
    }
    texts |= attestations(content, params, stages, git, patch.text, bundle)
    return RunRecord(
        content=content,
        parameters=settings,
        metrics=_numbers(figures) | {f"{stage}/seconds": run.seconds for stage, run in runs.items()},
        tags={
            **_code_tags(git),
            "device": runs["train"].device if "train" in runs else "unknown",
            **{f"seed.{name}": str(seed) for name, seed in lineage.seeds(settings).items()},
            **{f"dvc.{path}": digest for path, digest in hashes.items()},
            **registry.manifest_tag(bundle),
        },
        datasets={path: digest for path, digest in hashes.items() if path in stages["train"]["deps"]},
        artifacts={path: folder for path, folder in folders.items() if path.exists()},
        texts={f"{registry.LINEAGE}/{name}": text for name, text in texts.items() if text},
        decoder=bundle / DECODER,
    )


def attestations(
    content: str, params: Params, stages: dvc_lock.Stages, git: git_state.Git, patch: str, bundle: Path
) -> dict[str, str]:
    """The packages and the provenance of a version, as texts by file name."""
    files = {path.name: formats.sha256(path.read_bytes()) for path in sorted(bundle.iterdir())}
    lock, made = lineage.REQUIREMENTS, dvc_lock.outputs(stages)
    from_texts = {lock.name: lock.read_text("utf-8") if lock.exists() else "", lineage.PATCH: patch}
    documents = {
        attestation.SBOM: attestation.sbom(params.register_.model, content, files, attestation.packages()),
        attestation.PROVENANCE: attestation.provenance(
            builder=user(),
            code={"commit": git.commit or "none", "remote": git.remote or "none"},
            settings=settings_that_matter(params),
            inputs={path: digest for path, digest in dvc_lock.data_hashes(stages).items() if path not in made}
            | {path: digest for path, digest in made.items() if path in stages["export"]["deps"]},
            texts={name: formats.sha256(text.encode()) for name, text in from_texts.items() if text},
            files=files,
        ),
    }
    return {name: json.dumps(document, indent=2, sort_keys=True) for name, document in documents.items()}


def identity(stages: dvc_lock.Stages, params: Params) -> str:
    """The digest by which a version is found again: of data, model and bundle, and the settings that shaped them."""
    return formats.sha256(json.dumps([artifact_hashes(stages), settings_that_matter(params)], sort_keys=True).encode())


def settings_that_matter(params: Params) -> dict[str, dict[str, Any]]:
    """The settings that can change the files of a version or the figures kept with it, by stage.

    Those of the gate and of schedules cannot, nor those that say how the work is done, such as the number of workers.
    """
    blocks = {"prepare": params.prepare, "train": params.train, "evaluate": params.evaluate, "export": params.export}
    return {
        stage: block.model_dump(mode="json", exclude_none=True, exclude=set(block.result_free))
        for stage, block in blocks.items()
    }


def artifact_hashes(stages: dvc_lock.Stages) -> dict[str, str]:
    """Hashes of the data and the models, which identify a version."""
    return {path: digest for path, digest in dvc_lock.outputs(stages).items() if not path.startswith("results/")}


def _code_tags(git: git_state.Git) -> dict[str, str]:
    """Tags of the code and of the environment that it ran in."""
    lock = lineage.REQUIREMENTS
    return {
        "git.commit": git.commit or "none",
        "git.remote": git.remote or "none",
        "git.dirty": str(git.dirty).lower(),
        "lock.sha256": formats.sha256(lock.read_bytes()) if lock.exists() else "none",
        **{f"version.{name}": number for name, number in lineage.versions().items()},
    }


def _numbers(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The figures of each stage that are numbers; MLflow takes no other metrics."""
    named = {f"{stage}/{name}": value for stage, found in figures.items() for name, value in found.items()}
    return {name: value for name, value in named.items() if isinstance(value, int | float)}
