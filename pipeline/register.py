"""The stage register: one MLflow version for each distinct bundle, data and parameters; the gate; the champion."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.files import formats
from pipeline.files.atomic import check_writable
from pipeline.files.dataset import Dataset
from pipeline.market_figures import name_of
from pipeline.register_record import make_record
from pipeline.register_report import card_subject, judged
from pipeline.registry import attestation, cached, champion_model, gate, optional_checks, registry, vector_gate
from pipeline.registry.champion_model import Champion
from pipeline.registry.checks import Check
from pipeline.registry.gate import Comparison, Verdict
from pipeline.registry.mlflow_store import CONTENT
from pipeline.registry.registry import Registry, Version
from pipeline.registry.signing import signing_key
from pipeline.report.model_card import model_card, summary
from pipeline.report.verdict import judged_page
from pipeline.settings.params import Params
from pipeline.settings.register import GateParams, RegisterParams
from vae import runtime
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
    key = signing_key()  # first the key and the bundle, so that nothing is logged where one of them is refused
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
        unchecked = optional_checks.missing(loaded, figures, settings.gate)
        facts = judged(version, outcome["reason"], outcome["champion"], params, unchecked, title=title)
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
    """The champion. It is read before a version is registered, as none can be judged beside a champion that is refused.

    Args:
        models: registry.
        content: that identifies the version; where it is the champion's too, there is nothing to compare.

    Raises:
        StageError: the champion's files are gone, not those that were registered, or not signed by the key that is set.
    """
    champion = champion_model.read(models, own=content)
    if champion is not None and champion.fault:
        print(f"register: no comparison with the champion: {champion.fault}", file=sys.stderr)
    return champion


def _champion_now(models: Registry, champion: Champion | None, version: Version) -> Champion | None:
    """The present champion: another run may have promoted one since it was read, as registering takes seconds."""
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

    Where the data or the champion has no markets, there is one comparison, of all surfaces, under the empty name. Where
    the grids differ there is none.
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


def _result(check: Check) -> str:
    return f"{'pass' if check.passed else 'fail'}: {check}"
