"""The figures of the stage evaluate that matter most: those that DVC shows as metrics of the project."""

from collections.abc import Mapping

HEADLINES = (  # of surfaces, and of vectors, whose figures have no unit; a model has some of them
    "elbo_nats",
    "elbo_gap_to_oracle_nats",
    "reconstruction_rmse_bp",
    "reconstruction_rmse",
    "completion_hidden_mae_bp_10",
    "completion_mae_10",
    "completion_log_loss_nats_10",
    "opponent_error_ratio",
    "interval_coverage_90",
    "sample_energy_distance",
    "sample_boosting_accuracy",
    "sample_arbitrage_free_rate",
    "scenario_energy_ratio",
    "active_units",
)


def headlines(figures: Mapping[str, float]) -> dict[str, float]:
    """The headlines among the figures, in order.

    >>> headlines({"active_units": 5, "kl_nats": 31.2, "elbo_nats": 5707.5})
    {'elbo_nats': 5707.5, 'active_units': 5}
    """
    return {name: figures[name] for name in HEADLINES if name in figures}
