"""Facts of a registered version for its readers: the verdict, when and of what it was made, its model card."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.registry.registry import Version
from pipeline.report import page, vector_page
from pipeline.report.model_card import Subject
from pipeline.report.verdict import Judged
from pipeline.settings.params import Params
from pipeline.settings.prepare import ArrayPrepare, QuotesPrepare

_CHECK, _PASSED = "gate.", "pass: "  # beginnings of the tags of the checks, and of what they say
_NO_CHECKS = {"gate.verdict", "gate.reason"}
_DIGITS = 12  # of a hash


def judged(
    version: Version, reason: str, champion: str, params: Params, unchecked: Iterable[str], *, title: str
) -> Judged:
    """The facts of a version for a reader.

    Args:
        version: with the tags that the gate has set.
        reason: of the verdict.
        champion: number of the version that is champion now.
        params: all settings.
        unchecked: what the gate did not check, a sentence each.
        title: model and version.
    """
    checks = [
        (text.startswith(_PASSED), text.partition(": ")[2])
        for name, text in sorted(version.tags.items())
        if name.startswith(_CHECK) and name not in _NO_CHECKS
    ]
    reservations = list(_reservations(version, champion, unchecked))
    return Judged(title, version.refused is None, reason, checks, reservations, _facts(version, champion, params))


def card_subject(
    facts: Judged,
    source: str,
    noise_bp: float | None,
    figures: Mapping[str, float],
    prepared: Mapping[str, Any],
    manifest: Mapping[str, Any],
) -> Subject:
    """The subject of the model card of a version.

    Args:
        facts: of the version, as ``judged`` gives them.
        source: kind of the data.
        noise_bp: standard deviation of the noise of a quote, where it is known.
        figures: of the stage evaluate, among others.
        prepared: figures of the stage prepare.
        manifest: of the bundle.
    """
    main = page.main_cards(figures, noise_bp) if "grid" in manifest else vector_page.main_cards(figures)
    return Subject(facts, main, source, prepared, figures, manifest)


def _reservations(version: Version, champion: str, unchecked: Iterable[str]) -> Iterator[str]:
    """Reservations about an accepted version, a sentence each."""
    tags = version.tags
    if champion != version.number:
        yield f"version {champion} stays champion; `volvae promote {version.number}` exchanges it"
    parent = tags.get("volvae.parent", "none")
    if parent != "none" and "gate.gain_nats_low" not in tags:
        yield f"it was not compared with version {parent}, which was champion"
    yield from unchecked
    if tags.get("git.dirty") == "true":
        yield "the code differs from its commit"


def _facts(version: Version, champion: str, params: Params) -> dict[str, str]:
    tags, model = version.tags, params.train.model
    commit = tags.get("git.commit", "none")[:_DIGITS]
    remote = tags.get("git.remote", "none")
    digest = tags.get("dvc.data/surfaces", "unknown")[:_DIGITS]
    return {
        "registered": f"{version.created:%Y-%m-%d %H:%M} UTC",
        "champion": f"version {champion}",
        "data": f"{_source(params)}; data/surfaces {digest}",
        "code": f"commit {commit}" + ("" if remote == "none" else f" of {remote}"),
        "settings": f"{model.latents} latents, {params.train.epochs} epochs, seed {params.train.seed}",
        "made on": tags.get("device", "unknown"),
        "to rebuild": f"volvae lineage {version.number}",
    }


def _source(params: Params) -> str:
    prepare = params.prepare
    if isinstance(prepare, QuotesPrepare):
        return f"quotes in {prepare.quotes.path}"
    if isinstance(prepare, ArrayPrepare):
        return f"vectors in {prepare.array.path}"
    return f"simulated {prepare.source} surfaces, seed {prepare.seed}, noise {prepare.quote_noise_bp:g} bp"
