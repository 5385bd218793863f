"""The law of misfits against scipy's, and intervals against draws of a Student process."""

import numpy as np
import scipy.stats
import torch

from vae.model.calibration import COUNTS, OPEN, Calibration


def test_scores_are_normal_and_p_values_exact_under_the_f_law() -> None:
    found = Calibration()
    found.degrees.fill_(12.0)
    for count in (3, 10, 40):
        shares = np.array([0.01, 0.1, 0.5, 0.9, 0.99])
        misfit = torch.from_numpy(count * scipy.stats.f.ppf(shares, count, 12.0))
        counts = torch.full_like(misfit, count)
        np.testing.assert_allclose(found.score(misfit, counts), scipy.stats.norm.ppf(shares), atol=0.2)
        np.testing.assert_allclose(found.p_value(misfit, counts), 1.0 - shares, atol=0.02)


def test_p_values_are_shares_of_the_scores_of_the_same_number_of_points() -> None:
    found = Calibration()
    found.scores[COUNTS.index(5)] += 3.0
    misfit, counts = torch.tensor([5.0, 5.0, 5.0]).double(), torch.tensor([4.0, 6.0, 7.0]).double()
    few, own, more = found.p_value(misfit * counts / 5.0, counts).tolist()
    assert own > 0.99
    assert abs(few - more) < 0.05


def test_intervals_of_a_student_process_hold() -> None:
    generator, degrees, count = np.random.default_rng(1), 5.0, 3
    size = np.sqrt(degrees / generator.chisquare(degrees, 200_000))
    draws = size[:, None] * generator.standard_normal((len(size), count + 1))
    found = Calibration()
    found.degrees.fill_(degrees)
    misfit = torch.from_numpy(np.square(draws[:, :count]).sum(1))
    widened = found.widening(misfit, torch.full_like(misfit, count), torch.zeros_like(misfit)).numpy()
    assert abs((np.abs(draws[:, count]) <= 1.6448536 * widened).mean() - 0.9) < 0.004


def test_open_latents_widen_by_the_factors_of_their_number_of_points_between_their_places() -> None:
    found = Calibration()
    found.factors[COUNTS.index(40)] = torch.tensor([0.9, 1.0, 1.1, 1.3, 1.3, 1.4])
    misfit, count = torch.full((4,), 40.0).double(), torch.tensor([40.0, 99.0, 40.0, 39.0]).double()
    places = torch.tensor([OPEN[2], 0.5 * (OPEN[2] + OPEN[3]), 9.0, OPEN[2]]).double()
    factors = found.widening(misfit, count, places) / found.of_size(misfit, count)
    np.testing.assert_allclose(factors, [1.1, 1.2, 1.4, 1.0], rtol=1e-6)
