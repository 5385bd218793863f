"""The short text of a run compares with what has as many numbers, or is the best of its kind."""

from pathlib import Path
from typing import Any

from pipeline.report import text

_REGISTERED = dict.fromkeys(("model", "version", "store", "verdict", "champion", "reason"), "-")
_VECTORS = {
    "reconstruction_rmse": 0.01, "latent_reconstruction_rmse": 0.5, "pca_reconstruction_rmse": 0.7,
    "whole_pca_reconstruction_rmse": 0.04, "reconstruction_numbers": 12, "latents": 2, "active_units": 2,
    "elbo_nats": 10.0, "elbo_se_nats": 0.1, "iwae_nats": 11.0,
    "completion_mae_10": 0.3, "pca_completion_mae_10": 0.9, "completion_hidden_mae_10": 0.4,
    "opponent_completion_hidden_mae_10": 0.5, "opponent_gaussian_completion_hidden_mae_10": 0.5,
    "opponent_ppca_completion_hidden_mae_10": 0.6, "opponent_ppca_rank": 8,
    "pca_log_likelihood_nats": 4.0, "opponent_log_likelihood_nats": 9.0,
}  # fmt: skip


def told(evaluate: dict[str, Any]) -> str:
    figures = {"evaluate": evaluate, "export": {"parity_decoder_max_relative": 1e-6}, "register": _REGISTERED}
    return text.text(figures, Path("results"), Path("bundle"))


def test_vectors_are_compared_with_the_best_opponent_and_with_pca_of_as_many_numbers() -> None:
    found = told(_VECTORS)
    assert "reconstruction   0.01 off, held out (PCA with as many numbers, 12: 0.04)\n" in found
    assert "latents alone    0.5 (PCA with as many: 0.7)\n" in found
    assert "0.4 off at hidden points from 10 random ones (best linear opponent, Gaussian: 0.5)" in found
    assert "best linear opponent 9.0" in found
    assert "pPCA" not in found


def test_latents_that_are_all_numbers_have_one_rival() -> None:
    found = told({**_VECTORS, "reconstruction_numbers": 2})
    assert "reconstruction   0.01 off, held out\n" in found
