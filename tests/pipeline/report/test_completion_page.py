import re
from typing import Any

import numpy as np
import pytest

from pipeline.report.completion_page import Quoted, completion_page
from vae.runtime import Completion
from vae.surface.grid import Grid

GRID = Grid(np.array([0.25, 1.0]), np.linspace(-0.4, 0.4, 9), "log_moneyness")
SKEW = 0.2 - 0.1 * GRID.nodes


def completion(iv: np.ndarray, fitted: np.ndarray, **changes: Any) -> Completion:
    quotes = len(fitted)
    found = Completion(
        iv=iv,
        std=np.full(GRID.shape, 0.001),
        latents=np.zeros(2),
        fitted=fitted,
        fitted_std=np.full(quotes, 0.0005),
        misfit=1.0,
        p_value=0.42,
        used=~np.isnan(fitted),
        noise=1e-4,
        wild=np.zeros(quotes, bool),
    )
    return found._replace(**changes)


def page(found: Completion, quoted: Quoted) -> str:
    outcome = {
        "quotes": len(quoted.iv),
        "quotes_used": int(found.used.sum()),
        "rejected": [],
        "quotes_noise_bp": 1.0,
        "quotes_weighted": False,
        "quotes_mean_error_bp": 12.0,
        "median_std_bp": 10.0,
        "largest_std_bp": 11.0,
    }
    return completion_page("2026-03-02", GRID, quoted, found, outcome)


@pytest.fixture
def quoted() -> Quoted:
    """Two quotes a quarter ahead, one 30 bp above the surface, one on it; one out of reach."""
    k = np.array([-0.2, 0.1, 0.0])
    iv = 0.2 - 0.1 * k + np.array([0.0030, 0.0, 0.0])
    return Quoted(iv, np.array([0.25, 0.25, 5.0]), k, np.array([0.001, np.nan, np.nan]))


def fitted(quoted: Quoted) -> np.ndarray:
    return np.where(quoted.tenor < 2.0, 0.2 - 0.1 * quoted.k, np.nan)


def test_quotes_lie_on_the_smile_and_off_it_by_their_residuals(quoted: Quoted) -> None:
    found = page(completion(np.stack([SKEW, SKEW]), fitted(quoted)), quoted)
    (section,) = re.findall(r"<h3>91 days</h3>(.*?)</figure>", found, re.DOTALL)
    upper, lower = re.findall(r"<svg.*?</svg>", section, re.DOTALL)
    notes = [float(note) for note in re.findall(r"<title>\S+: (\S+)</title>", lower)]
    np.testing.assert_allclose(notes, [30.0, 0.0], atol=0.01)
    assert upper.count("<circle") == 2
    assert "15.0 bp on average" in section
    assert upper.rindex('<path class="own"') > upper.rindex("<circle"), "the surface is above its quotes"
    assert "bid to ask" in section


def test_quotes_out_of_reach_are_counted_and_not_drawn(quoted: Quoted) -> None:
    found = page(completion(np.stack([SKEW, SKEW]), fitted(quoted)), quoted)
    assert "2 of 3" in found
    assert "1 out of reach" in found
    assert re.findall(r"<h3>(\d+) days</h3>", found) == ["91"]


def test_quotes_that_fit_no_surface_are_red_and_the_warning_is_first(quoted: Quoted) -> None:
    good = completion(np.stack([SKEW, SKEW]), fitted(quoted))
    assert '<main><section class="verdict green"><h2>The quotes fit' in page(good, quoted)
    wild = good._replace(wild=np.array([True, False, False]), warning="a < b")
    found = page(wild, quoted)
    assert '<main><section class="verdict amber"><h2>The quotes fit the model, but for some</h2>' in found
    noisy = page(wild._replace(cause="noise"), quoted)
    assert '<main><section class="verdict amber"><h2>The quotes do not fit the model</h2>' in noisy
    assert "a &lt; b" in found
    assert found.count('<circle class="wrong"') == 2
    assert '<circle class="wrong"' not in page(good, quoted)


def test_the_page_needs_nothing_else(quoted: Quoted) -> None:
    found = page(completion(np.stack([SKEW, SKEW]), fitted(quoted)), quoted)
    assert "<script" not in found
    assert "http" not in found
    assert "nan" not in re.sub(r"<style>.*?</style>", "", found)


def test_a_surface_in_deltas_is_drawn_over_log_moneyness() -> None:
    grid = Grid(np.array([0.25, 1.0]), np.linspace(0.1, 0.9, 9), "delta")
    iv = np.full(grid.shape, 0.2)
    quoted = Quoted(np.array([0.2]), np.array([0.25]), np.array([0.0]), np.array([np.nan]))
    found = completion(iv, np.array([0.2]))
    outcome = dict.fromkeys(
        ("quotes", "quotes_used", "quotes_noise_bp", "quotes_mean_error_bp", "median_std_bp", "largest_std_bp"), 1
    )
    text = completion_page("", grid, quoted, found, outcome | {"rejected": [], "quotes_weighted": True})
    assert "call delta 0.1 to 0.9" in text
    assert "noise of a quote of weight 1: 1.0 bp" in text
    assert "k = ln(K/F)" in text
