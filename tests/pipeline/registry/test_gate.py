"""The gate's checks on figures that are known."""

import numpy as np
import pytest

from pipeline.registry import gate
from pipeline.registry.gate import Comparison, Verdict
from pipeline.settings.register import GateParams, ShareRange
from tests.workspace import Workspace
from vae.runtime import SurfaceModel

GATE = GateParams(
    parity_vol=1e-5, coverage_90=ShareRange(low=0.85, high=0.95), arbitrage_rate=0.01, opponent_ratio=2.0,
    decode_ms=5.0, worse_nats=1.0, worse_bp=0.5,
)  # fmt: skip
FIGURES = {
    "parity_decoder_max_vol": 1e-6, "interval_coverage_90": 0.9, "data_arbitrage_free_rate": 0.99,
    "sample_arbitrage_free_rate": 0.98, "opponent_error_ratio": 2.0,
    "decode_ms": 1.0,
}  # fmt: skip


def failed(**changes: float | None) -> list[str]:
    figures = {name: value for name, value in {**FIGURES, **changes}.items() if value is not None}
    return [check.name for check in gate.absolute_checks(figures, GATE) if not check.passed]


def test_figures_at_their_limits_pass() -> None:
    assert failed() == []


@pytest.mark.parametrize(
    ("name", "value", "check"),
    [
        ("parity_decoder_max_vol", 1.01e-5, "parity_decoder_max_vol"),
        ("interval_coverage_90", 0.84, "interval_coverage_90"),
        ("interval_coverage_90", 0.96, "interval_coverage_90"),
        ("sample_arbitrage_free_rate", 0.9799, "sample_arbitrage_free_rate"),
        ("opponent_error_ratio", 1.99, "opponent_error_ratio"),
        ("scenario_energy_ratio", 0.999, "scenario_energy_ratio"),
        ("decode_ms", 5.1, "decode_ms"),
        ("decode_ms", float("nan"), "decode_ms"),
    ],
)
def test_a_figure_beyond_its_limit_fails(name: str, value: float, check: str) -> None:
    assert failed(**{name: value}) == [check]


def test_a_figure_that_was_not_measured_fails_unless_the_check_is_left_out() -> None:
    assert failed(interval_coverage_90=None) == ["interval_coverage_90"]
    figures = {name: value for name, value in FIGURES.items() if name in ("parity_decoder_max_vol", "decode_ms")}
    lenient = GATE.model_copy(update={"coverage_90": None, "arbitrage_rate": None, "opponent_ratio": None})
    assert all(check.passed for check in gate.absolute_checks(figures, lenient))


@pytest.mark.parametrize(
    ("nats", "bp", "accepted"),
    [((0.0, 0.4), (0.0, 0.2), True), ((0.0, 0.6), (0.0, 0.2), False), ((0.0, 0.4), (0.0, 0.3), False),
     ((5.0, 1.0), (-1.0, 0.5), True), ((-2.0, 0.0), (0.0, 0.0), False)],
)  # fmt: skip
def test_two_standard_errors_count_against_a_version(
    nats: tuple[float, float], bp: tuple[float, float], *, accepted: bool
) -> None:
    found = Comparison(100, *nats, *bp)
    assert Verdict(tuple(gate.paired_checks({"": found}, GATE))).accepted is accepted


def test_the_datas_own_arbitrage_has_a_bar_that_does_not_move_with_it() -> None:
    """A wrong file lowers the rate that samples are held against, too."""
    assert "data_large_arbitrage_rate" not in [check.name for check in gate.absolute_checks(FIGURES, GATE)]
    assert failed(large_arbitrage_rate=0.05) == []
    assert failed(large_arbitrage_rate=0.06, data_arbitrage_free_rate=0.1) == ["data_large_arbitrage_rate"]
    off = GATE.model_copy(update={"data_arbitrage": None})
    assert Verdict(tuple(gate.absolute_checks({**FIGURES, "large_arbitrage_rate": 1.0}, off))).accepted


def test_the_worst_market_is_judged_and_named() -> None:
    """Coverage may be too high or too low; a market without figures is not judged."""
    markets, figures = ("A", "B", "new"), dict(FIGURES)
    by_market = {"interval_coverage_90": (0.94, 0.97), "opponent_error_ratio": (1.9, 2.5)}
    for name, (of_a, of_b) in by_market.items():
        figures |= {f"{name}_market_A": of_a, f"{name}_market_B": of_b}
    failed = [check for check in gate.absolute_checks(figures, GATE, markets) if not check.passed]
    assert [str(check) for check in failed] == [
        "interval_coverage_90 of B 0.97, wanted 0.85 to 0.95",
        "opponent_error_ratio of A 1.9, wanted at least 2",
    ]
    found = {"A": Comparison(9, -3.0, 0.5, 0.1, 0.0), "B": Comparison(9, 1.0, 0.5, 0.4, 0.2)}
    assert [str(check) for check in gate.paired_checks(found, GATE)] == [
        "gain_nats_low of A -4, wanted at least -1",
        "loss_bp_high of B 0.8, wanted at most 0.5",
    ]
    lost = {"A": Comparison(9, 0.0, 0.0, 0.0, 0.0), "B": Comparison(9, float("nan"), 0.0, 0.0, 0.0)}
    assert [check.market for check in gate.paired_checks(lost, GATE) if not check.passed] == ["B"]


def test_a_verdict_says_why() -> None:
    checks = gate.absolute_checks({**FIGURES, "decode_ms": 9.0, "interval_coverage_90": 0.5}, GATE)
    assert Verdict(tuple(checks)).reason == (
        "interval_coverage_90 0.5, wanted 0.85 to 0.95; decode_ms 9, wanted at most 5"
    )
    assert Verdict(tuple(gate.absolute_checks(FIGURES, GATE))).reason == "all 5 checks passed"


def test_a_model_beside_itself_differs_by_nothing(finished: Workspace) -> None:
    model = SurfaceModel.load(finished.folder / "artifacts/bundle", provider="cpu")
    iv = model.sample(20, seed=1)
    assert gate.compare(model, model, iv, iv) == Comparison(20, 0.0, 0.0, 0.0, 0.0)


def test_the_comparison_is_paired(finished: Workspace) -> None:
    """Mean and standard error of the differences, by their definition."""
    model = SurfaceModel.load(finished.folder / "artifacts/bundle", provider="cpu")
    iv = model.sample(20, seed=1)

    class Shifted:
        def score(self, quoted):
            scores = model.score(quoted)
            return scores._replace(nats=scores.nats - np.arange(20, dtype=np.float32))

        def reconstruct(self, quoted):
            return model.reconstruct(quoted)

    found = gate.compare(model, Shifted(), iv, iv)
    assert found.nats == pytest.approx(9.5, rel=1e-6)
    assert found.nats_se == pytest.approx(np.std(np.arange(20), ddof=1) / np.sqrt(20), rel=1e-5)
