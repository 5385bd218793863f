"""The card beside what it is written of: every fact is there, and nothing is left open."""

from io import StringIO
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.register_report import card_subject
from pipeline.report.model_card import Subject, model_card, summary
from pipeline.report.verdict import Judged

#: Headings of Mitchell et al. (2019), figure 1.
MITCHELL = (
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data", "Quantitative analyses",
    "Ethical considerations", "Caveats and recommendations",
)  # fmt: skip
_FACTS = {
    "registered": "2026-03-02 10:30 UTC",
    "data": "simulated heston surfaces, seed 7, noise 1 bp; data/surfaces 0123456789ab",
    "code": "commit 0123456789ab",
    "to rebuild": "volvae lineage 3",
}
_COMMON = {
    "elbo_nats": 5707.51, "oracle_nats": 5712.14, "active_units": 5.0, "latents": 5.0, "interval_coverage_90": 0.907,
    "sample_boosting_accuracy": 0.4975, "floor_boosting_accuracy": 0.4972,
}  # fmt: skip
_SURFACES = _COMMON | {
    "completion_hidden_mae_bp_10": 1.26, "opponent_completion_hidden_mae_bp_10": 9.7,
    "opponent_ppca_completion_hidden_mae_bp_10": 9.7, "opponent_ppca_rank": 48, "reconstruction_rmse_bp": 0.116,
    "latent_reconstruction_rmse_bp": 0.76, "pca_reconstruction_rmse_bp": 23.1, "sample_arbitrage_free_rate": 0.9999,
    "data_arbitrage_free_rate": 1.0,
}  # fmt: skip
_VECTORS = _COMMON | {
    "reconstruction_rmse": 0.5, "latent_reconstruction_rmse": 0.6, "pca_reconstruction_rmse": 0.7,
}  # fmt: skip
_MANIFEST = {
    "format": 4, "volvae_version": "0.1.0", "latents": 5, "residual_factors": 24, "conditions": ["skew"],
    "prior": "flow of splines", "weights_sha256": "e609", "units": "iv: decimal", "transform": "none",
}  # fmt: skip
_GRID = {"convention": "sqrt_time", "tenors": [6 / 365, 1.0], "nodes": [-0.5, 0.4]}


def subject(*, accepted: bool = True, **manifest: Any) -> Subject:
    reason = "all 2 checks passed" if accepted else "decode_ms 9, wanted at most 5"
    checks = [(True, "interval_coverage_90 0.9, wanted 0.85 to 0.95"), (accepted, "decode_ms 9, wanted at most 5")]
    judged = Judged("volvae version 3", accepted, reason, checks, ["the code differs from its commit"], _FACTS)
    whole = _MANIFEST | (manifest or {"grid": _GRID, "markets": ["AUDUSD", "EURUSD"]})
    figures = _SURFACES if "grid" in whole else _VECTORS
    kind = "surfaces" if "grid" in whole else "vectors"
    prepared = {f"{split}_{kind}": 1234 for split in ("train", "validation", "test")} | {
        "train_rejected_too_small": 42,
        "test_rejected_too_small": 0,
    }
    return card_subject(judged, "heston", 1.0, figures, prepared, whole)


_OF_VECTORS = {"dimension": 784, "likelihood": "bernoulli"}


@pytest.mark.parametrize("manifest", [{}, _OF_VECTORS], ids=["surfaces", "vectors"])
def test_a_card_has_the_sections_of_the_paper_in_order_and_none_is_empty(manifest: dict) -> None:
    """After Mitchell et al. two sections say how it is used and made again."""
    parts = model_card(subject(**manifest)).split("\n## ")
    assert [part.partition("\n")[0] for part in parts[1:]] == [*MITCHELL, "How to get started", "How to reproduce"]
    assert all(len(part.partition("\n")[2].strip()) > 20 for part in parts[1:])
    assert "None" not in "".join(parts)


def test_facts_and_figures_are_in_the_card_beside_their_opponents() -> None:
    found = model_card(subject())
    for text in (
        "Accepted by the gate: all 2 checks passed.",
        "- 5 latents, 24 residual factors",
        "- code: commit 0123456789ab",
        "tenors from 6 to 365 days, nodes from -0.5 to 0.4 (sqrt_time)",
        "- markets: AUDUSD, EURUSD",
        "1,234 test surfaces, held out",
        "Data: simulated heston surfaces, seed 7, noise 1 bp. 1,234 training surfaces",
        "- train rejected too small: 42",
        "| error at hidden points, from 10 | 1.26 bp | best linear opponent, pPCA, rank 48: 9.7 bp |",
        "| ELBO, nats | 5,707.5 | exact ceiling 5,712.1 |",
        "- passed: interval_coverage_90 0.9, wanted 0.85 to 0.95",
        "- the code differs from its commit",
        "`volvae lineage 3` names the commit",
    ):
        assert text in found
    assert "test rejected" not in found


def test_the_head_is_the_metadata_that_a_hub_reads() -> None:
    """The model-index of https://huggingface.co/docs/hub/model-cards: task, dataset and metrics of a result."""
    _, head, _ = model_card(subject()).split("---\n", 2)
    (result,) = YAML(typ="safe").load(StringIO(head))["model-index"][0]["results"]
    assert result["task"]["type"] == "surface-generation"
    assert result["dataset"]["type"] == "heston"
    found = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert found["completion_hidden_mae_bp_10"] == 1.26
    assert found["elbo_nats"] == 5707.51


def test_a_refusal_is_said_first() -> None:
    found = subject(accepted=False)
    for text in (model_card(found).partition("# volvae version 3\n\n")[2], summary(found)):
        assert text.startswith("**Refused** by the gate: decode_ms 9, wanted at most 5.")
    assert "- FAILED: decode_ms 9" in model_card(found)


def test_a_description_has_the_figures_and_fits() -> None:
    """MLflow takes 5,000 letters."""
    found = summary(subject())
    assert "| error at hidden points, from 10 | 1.26 bp |" in found
    assert "report/model_card.md" in found
    assert len(found) < 2500
