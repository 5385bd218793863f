"""Which checks of the gate may be left out, of each kind of data."""

from unittest.mock import Mock

import pytest

from pipeline.registry import gate, optional_checks, vector_gate
from pipeline.settings.register import GateParams, ShareRange
from vae.runtime import SurfaceModel, VectorModel

GATE = GateParams(
    parity_vol=1e-5, coverage_90=ShareRange(low=0.85, high=0.95), arbitrage_rate=0.01, opponent_ratio=2.0,
    decode_ms=5.0, worse_nats=1.0, worse_bp=0.5,
)  # fmt: skip
OFF = GATE.model_copy(update=dict.fromkeys(optional_checks._OPTIONAL))
QUOTES, MOTION = {"large_arbitrage_rate": 0.0}, {"scenario_energy_ratio": 1.0}


@pytest.mark.parametrize(
    ("model", "figures", "has"),
    [
        (Mock(SurfaceModel, manifest={}), {}, ["coverage_90", "arbitrage_rate", "opponent_ratio"]),
        (
            Mock(SurfaceModel, manifest={}),
            QUOTES | MOTION,
            ["coverage_90", "arbitrage_rate", "data_arbitrage", "opponent_ratio", "scenario_ratio"],
        ),
        (Mock(VectorModel, likelihood="gaussian", manifest={}), {}, ["coverage_90", "opponent_ratio"]),
        (Mock(VectorModel, likelihood="bernoulli", manifest={}), {}, []),
    ],
)
def test_what_null_leaves_out_is_what_the_gate_lacks_then(
    model: SurfaceModel | VectorModel, figures: dict[str, float], has: list[str]
) -> None:
    unchecked = [f"register.gate.{name} is null: this is not checked" for name in has]
    assert list(optional_checks.missing(model, figures, OFF)) == unchecked
    assert list(optional_checks.missing(model, figures, GATE)) == []
    if isinstance(model, VectorModel):
        counts = [len(vector_gate.absolute_checks(figures, limits, model.likelihood)) for limits in (GATE, OFF)]
    else:
        counts = [len(gate.absolute_checks(figures, limits)) for limits in (GATE, OFF)]
    assert counts[0] - counts[1] == len(has)


def test_a_law_of_motion_that_no_date_tests_is_said_not_to_be_checked() -> None:
    model = Mock(SurfaceModel, manifest={"dynamics": {}})
    assert list(optional_checks.missing(model, MOTION, GATE)) == []
    (line,) = optional_checks.missing(model, {}, GATE)
    assert line == "the law of motion is not checked: there are no test dates"
