"""The stage register: one MLflow version for each distinct bundle, data and parameters; the gate; the champion."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError, listed
from pipeline.files import formats
from pipeline.files.atomic import check_writable
from pipeline.files.dataset import Dataset
from pipeline.market_figures import name_of
from pipeline.register_report import card_subject, judged
from pipeline.registry import attestation, cached, gate, lineage, registry, vector_gate
from pipeline.registry.gate import Check, Comparison, Verdict
from pipeline.registry.mlflow_store import CONTENT, RunRecord, user
from pipeline.registry.registry import Registry, Version
from pipeline.registry.signing import signing_key
from pipeline.report.model_card import model_card, summary
from pipeline.report.verdict import judged_page
from pipeline.settings.params import Params
from pipeline.settings.register import GateParams, RegisterParams
from vae import runtime
from vae.bundle import DECODER
from vae.runtime import SurfaceModel, VectorModel

_MOST_COMPARISONS = 5  # with a champion that another one replaces meanwhile


class HeldOut(NamedTuple):
    """Test surfaces [surface, tenor, node] or vectors [vector, D].

    Attributes:
        quoted: vols with noise, NaN where missing; or vectors.
        truth: vols without noise where these are known, else ``quoted``.
        market: place of each surface's market in ``markets``, [surface]; None where there are no markets.
        markets: their names.
    """

    quoted: NDArray[np.float32]
    truth: NDArray[np.float32]
    market: NDArray[np.int64] | None = None
    markets: tuple[str, ...] = ()


class Champion(NamedTuple):
    """The champion that a version is held against.

    Attributes:
        version: that the alias names.
        model: of it; None where there is nothing to compare: it is the version itself, or of a format that this version
            of volvae does not read.
    """

    version: Version
    model: SurfaceModel | VectorModel | None


def main(
    params: Params,
    *,
    surfaces: Path,
    model: Path,
    bundle: Path,
    page: Path,
    report: Path,
    card: Path,
    prepare_metrics: Path,
    train_metrics: Path,
    evaluate_metrics: Path,
    export_metrics: Path,
    metrics: Path,
) -> None:
    """Register and judge the bundle; write the verdict to ``metrics``, above ``page`` to ``report``, and ``card``."""
    for path in (metrics, report, card):
        check_writable(path)
    key = signing_key()  # which refuses a wrong one before anything is logged, as the next line a damaged bundle
    loaded = runtime.load(bundle, provider="cpu", threads=1, check_signature=False)
    measured = {p.stem: p for p in (prepare_metrics, train_metrics, evaluate_metrics, export_metrics)}
    cached.check((surfaces, model, bundle))
    by_stage = {stage: formats.read_json(path) for stage, path in measured.items()}
    record = make_record(params, measured, by_stage, bundle=bundle)
    figures = {name: value for found in by_stage.values() for name, value in found.items()}
    figures["decode_ms"] = gate.decode_ms(loaded)
    data = Dataset(surfaces)
    held_out = read_held_out(data)
    settings = params.register_
    with registry.opened(model=settings.model, experiment=settings.experiment) as models:
        champion = trusted_champion(models, record.content)
        version = models.register(record)
        if key is not None:
            models.sign(version, key, bundle, record.texts[f"{registry.LINEAGE}/{attestation.PROVENANCE}"].encode())
        outcome = decide(models, version, champion, loaded, figures, held_out, settings)
        version = models.find(version.number)  # with the tags of the verdict
        title = f"{settings.model} version {version.number}"
        facts = judged(version, outcome["reason"], outcome["champion"], params, title=title)
        prepared = by_stage[prepare_metrics.stem]
        subject = card_subject(facts, params.prepare.source, data.noise_bp, figures, prepared, loaded.manifest)
        formats.write_bytes(report, judged_page(formats.read_bytes(page).decode(), facts).encode())
        formats.write_bytes(card, model_card(subject).encode())
        for path in (report, card):
            models.attach(version, path, "report")
        models.describe(version, summary(subject))
    whole = {"model": settings.model, "version": version.number, **outcome}
    formats.write_json(metrics, {**whole, "run_id": version.run_id, "store": models.store})
    print(f"register: {title} {outcome['verdict']}: {outcome['reason']}")


def read_held_out(data: Dataset) -> HeldOut:
    """The test surfaces or vectors of a data set."""
    if data.of_vectors:
        vectors = data.points("test")
        return HeldOut(vectors, vectors)
    test = data.arrays("test")
    return HeldOut(test["iv"], test.get("clean", test["iv"]), data.market("test"), data.markets)


def trusted_champion(models: Registry, content: str) -> Champion | None:
    """The champion, read before a version is registered, which could not be judged beside one that is not trusted.

    Args:
        models: registry.
        content: that identifies the version; where it is the champion's own, the champion is not read.

    Raises:
        StageError: the champion's files are gone, not those that were registered, or not signed by the key that is set.
    """
    champion = models.get(registry.CHAMPION)
    if champion is None:
        return None
    if champion.tags.get(CONTENT) == content:
        return Champion(champion, None)
    try:
        return Champion(champion, models.load(champion))
    except registry.OtherFormatError as error:
        print(f"register: no comparison with the champion: {error}", file=sys.stderr)
        return Champion(champion, None)


def _champion_now(models: Registry, champion: Champion | None, version: Version) -> Champion | None:
    """The champion that was read, or the one that was promoted since: signing and registering take their time."""
    now = models.get(registry.CHAMPION)
    before = None if champion is None else champion.version.number
    moved = before != (None if now is None else now.number)
    return trusted_champion(models, version.tags[CONTENT]) if moved else champion


def decide(
    models: Registry,
    version: Version,
    champion: Champion | None,
    loaded: SurfaceModel | VectorModel,
    figures: Mapping[str, float],
    held_out: HeldOut,
    settings: RegisterParams,
) -> dict[str, Any]:
    """Judge a version alone and against the champion; promote an accepted one if the settings say so.

    Args:
        models: registry.
        version: to judge.
        champion: that was read before the version was registered; where another is promoted before the comparison has
            ended, that one counts.
        loaded: the model of the version.
        figures: of all stages.
        held_out: data on which both are compared.
        settings: of the stage.

    Raises:
        StageError: a champion that was promoted since cannot be trusted, or others were promoted again and again.
    """
    champion = _champion_now(models, champion, version)
    for _ in range(_MOST_COMPARISONS):
        parent = None if champion is None else champion.version.number
        if parent == version.number:
            return {"verdict": "accepted", "reason": "it is champion already", "champion": parent}
        rival = None if champion is None else champion.model
        if isinstance(loaded, VectorModel):
            checks, compared = judge_vectors(loaded, rival, figures, held_out, settings.gate)
        else:
            checks, compared = judge_surfaces(loaded, rival, figures, held_out, settings.gate)
        now = _champion_now(models, champion, version)
        if now is champion:
            break
        champion = now  # promoted during the comparison, which takes seconds
    else:
        raise StageError(
            f"{settings.model} version {version.number} is registered, but not judged: another version was promoted "
            f"during each of {_MOST_COMPARISONS} comparisons with the champion; `dvc repro` judges it again"
        )
    verdict = Verdict(tuple(checks))
    tags = {f"gate.{check.name}": _result(check) for check in checks} | {"volvae.parent": parent or "none"}
    models.judge(version, accepted=verdict.accepted, reason=verdict.reason, tags=tags)
    if verdict.accepted and settings.promote and not version.rolled_back:
        models.promote(version, reason=f"gate: {verdict.reason}")
        parent = version.number
    return {
        "verdict": "accepted" if verdict.accepted else "refused",
        "reason": verdict.reason,
        "champion": parent or "none",
        **{f"gate_{check.name}": check.value for check in checks},
        **compared,
    }


def judge_surfaces(
    loaded: SurfaceModel,
    champion: SurfaceModel | VectorModel | None,
    figures: Mapping[str, float],
    held_out: HeldOut,
    limits: GateParams,
) -> tuple[list[Check], dict[str, float]]:
    """The checks of a model of surfaces, and the figures of its comparison with the champion, if there is one."""
    checks = gate.absolute_checks(figures, limits, held_out.markets)
    found = {} if champion is None else compare(loaded, champion, held_out)
    if found:
        checks += gate.paired_checks(found, limits)
    return checks, {
        name_of(f"beside_champion_{name}", market) if market else f"beside_champion_{name}": value
        for market, comparison in found.items()
        for name, value in comparison._asdict().items()
    }


def judge_vectors(
    loaded: VectorModel,
    champion: SurfaceModel | VectorModel | None,
    figures: Mapping[str, float],
    held_out: HeldOut,
    limits: GateParams,
) -> tuple[list[Check], dict[str, float]]:
    """The checks of a model of vectors, and the figures of its comparison with a champion of such vectors."""
    checks = vector_gate.absolute_checks(figures, limits, loaded.likelihood)
    if not isinstance(champion, VectorModel) or not vector_gate.comparable(loaded, champion):
        return checks, {}
    found = vector_gate.compare(loaded, champion, held_out.quoted)
    checks += vector_gate.paired_checks(found, limits)
    return checks, {f"beside_champion_{name}": value for name, value in found._asdict().items()}


def compare(challenger: SurfaceModel, champion: SurfaceModel | VectorModel, held_out: HeldOut) -> dict[str, Comparison]:
    """The comparison with the champion on the test surfaces of each market that it was trained on, by name.

    It is one, under the empty name, where the data or the champion has no markets; none where the grids differ.
    """
    if isinstance(champion, VectorModel) or champion.grid.to_dict() != challenger.grid.to_dict():
        return {}
    if held_out.market is None or not champion.markets:
        return {"": gate.compare(challenger, champion, held_out.quoted, held_out.truth)}
    rows = {
        name: held_out.market == held_out.markets.index(name) for name in held_out.markets if name in champion.markets
    }
    return {
        name: gate.compare(challenger, champion, held_out.quoted[chosen], held_out.truth[chosen])
        for name, chosen in rows.items()
        if chosen.any()
    }


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
    settings = lineage.flatten(params.model_dump(mode="json", by_alias=True, exclude_none=True))
    stages, git = lineage.recorded(), lineage.git()
    patch = lineage.git_patch() if git.dirty else lineage.Patch()
    if patch.left_out:
        print(
            f"register: the patch of uncommitted changes leaves out {listed(patch.left_out)}, which are no code or too "
            f"large; commit them if the version needs them",
            file=sys.stderr,
        )
    hashes = lineage.data_hashes(stages)
    runs = {stage: run for stage, path in measured.items() if (run := lineage.run_of(stage, path))}
    folders = {
        bundle: registry.BUNDLE,
        lineage.LOCK: registry.LINEAGE,
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
    content: str, params: Params, stages: lineage.Stages, git: lineage.Git, patch: str, bundle: Path
) -> dict[str, str]:
    """The packages and the provenance of a version, as texts by file name."""
    files = {path.name: formats.sha256(path.read_bytes()) for path in sorted(bundle.iterdir())}
    lock, made = lineage.REQUIREMENTS, lineage.outputs(stages)
    from_texts = {lock.name: lock.read_text("utf-8") if lock.exists() else "", lineage.PATCH: patch}
    documents = {
        attestation.SBOM: attestation.sbom(params.register_.model, content, files, attestation.packages()),
        attestation.PROVENANCE: attestation.provenance(
            builder=user(),
            code={"commit": git.commit or "none", "remote": git.remote or "none"},
            settings=settings_that_matter(params),
            inputs={path: digest for path, digest in lineage.data_hashes(stages).items() if path not in made}
            | {path: digest for path, digest in made.items() if path in stages["export"]["deps"]},
            texts={name: formats.sha256(text.encode()) for name, text in from_texts.items() if text},
            files=files,
        ),
    }
    return {name: json.dumps(document, indent=2, sort_keys=True) for name, document in documents.items()}


def identity(stages: lineage.Stages, params: Params) -> str:
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


def artifact_hashes(stages: lineage.Stages) -> dict[str, str]:
    """Hashes of the data and the models, which identify a version."""
    return {path: digest for path, digest in lineage.outputs(stages).items() if not path.startswith("results/")}


def _code_tags(git: lineage.Git) -> dict[str, str]:
    """Tags of the code and of the environment that it ran in."""
    lock = lineage.REQUIREMENTS
    return {
        "git.commit": git.commit or "none",
        "git.remote": git.remote or "none",
        "git.dirty": str(git.dirty).lower(),
        "lock.sha256": formats.sha256(lock.read_bytes()) if lock.exists() else "none",
        **{f"version.{name}": number for name, number in lineage.versions().items()},
    }


def _result(check: Check) -> str:
    return f"{'pass' if check.passed else 'fail'}: {check}"


def _numbers(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The figures of each stage that are numbers; MLflow takes no other metrics."""
    named = {f"{stage}/{name}": value for stage, found in figures.items() for name, value in found.items()}
    return {name: value for name, value in named.items() if isinstance(value, int | float)}
