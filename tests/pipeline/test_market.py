"""Training and completion on real market data with the settings of docs/quotes.md."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.files import formats
from tests.pipeline.sources.test_quotes import example, market_data
from tests.workspace import Workspace

PUBLISHED_PCA = {5: 15.7, 10: 10.1, 20: 7.3, 40: 6.3}  # bp: PCA with 8 factors on these days, the bar of the project


@pytest.mark.slow
def test_a_currency_pair_is_completed_better_than_by_pca_with_intervals_that_cover(
    root: Path, workspace: Workspace
) -> None:
    """Chronological, the last 15 % of the days; errors are over all 40 points, known or not."""
    settings = example(root, 0, market_data("fx_audusd/audusd_2012_2019.parquet"))
    settings["evaluate"] |= {"completion_points": list(PUBLISHED_PCA), "completion_surfaces": 500}
    YAML().dump(settings, workspace.folder / "params.yaml")
    for stage in ("prepare", "train", "evaluate", "export"):
        assert workspace.run(stage) == 0, stage

    figures = formats.read_json(Path("results/evaluate.json"))
    assert figures["latents"] <= 8
    for known, bar in PUBLISHED_PCA.items():
        error, pca = figures[f"completion_mae_bp_{known}"], figures[f"pca_completion_mae_bp_{known}"]
        assert error <= bar, known
        assert error < pca, known
    assert 0.88 <= figures["interval_coverage_90"] <= 0.92
    for known in (5, 10, 20):
        assert 0.86 <= figures[f"interval_coverage_90_{known}"] <= 0.93, known
    assert figures["elbo_nats"] > figures["pca_log_likelihood_nats"]
    table = Path("results/plots/evaluate/completion.csv").read_text().splitlines()
    assert (
        table[0]
        == "known_points,completion_mae_bp,pca_completion_mae_bp,opponent_completion_mae_bp,interval_coverage_90"
    )
    assert len(table) == 5


@pytest.mark.slow
def test_one_model_of_two_currency_pairs_completes_each_as_well_as_a_model_of_its_own() -> None:
    """Within five percent from 5, 10 and 20 points of 40, trained with the same settings on the same days."""
    from benchmarks import markets  # noqa: PLC0415  slow to import

    for file in markets.FILES.values():
        market_data(file)
    found = markets.results()
    ratios = {name: value for name, value in found.items() if name.endswith("_both_by_own")}
    assert len(ratios) == len(markets.FILES) * len(markets.KNOWN)
    assert max(ratios.values()) <= markets.BAR
