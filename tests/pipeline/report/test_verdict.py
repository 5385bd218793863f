import re
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.register_report import judged
from pipeline.registry.registry import Version
from pipeline.report import blocks
from pipeline.report.blocks import Card
from pipeline.report.verdict import UNJUDGED, judged_page
from tests.workspace import Workspace

TAGS = {
    "gate.verdict": "accepted",
    "gate.reason": "all 2 checks passed",
    "gate.interval_coverage_90": "pass: interval_coverage_90 0.9067, wanted 0.85 to 0.95",
    "gate.decode_ms": "pass: decode_ms 0.07, wanted at most 5",
    "volvae.parent": "none",
    "git.commit": "0123456789abcdef",
    "git.dirty": "false",
    "dvc.data/surfaces": "0123456789abcdef.dir",
    "device": "x86_64, 2 cores",
}

QUOTES = {"path": "quotes.csv", "columns": {"date": "date", "tenor": "tenor", "log_moneyness": "k", "iv": "iv"}}


def page(workspace: Workspace, champion: str = "3", **tags: str) -> str:
    """The report of version 3 with these tags beside the common ones."""
    version = Version("3", "run", datetime(2026, 3, 2, 10, 30, tzinfo=UTC), TAGS | tags)
    facts = judged(
        version, tags.get("gate.reason", "all passed"), champion, workspace.params(), title="volvae version 3"
    )
    return judged_page(blocks.page("surfaces", "intro", [Card("1 bp", "error", "noise: 2 bp")], [], ""), facts)


def test_the_verdict_is_the_first_thing(workspace: Workspace) -> None:
    found = page(workspace)
    assert UNJUDGED not in found
    assert '<main><section class="verdict green"><h2>volvae version 3: accepted</h2><p>all passed</p>' in found
    for text in (
        "2026-03-02 10:30 UTC",
        "simulated heston surfaces, seed 7, noise 1 bp; data/surfaces 0123456789ab",
        "commit 0123456789ab",
        "3 latents, 4 epochs, seed 7",
        "passed: decode_ms 0.07, wanted at most 5",
    ):
        assert text in found


def test_a_refusal_is_red_with_its_reason(workspace: Workspace) -> None:
    reason = "interval_coverage_90 0.5, wanted 0.85 to 0.95"
    tags: dict[str, Any] = {"gate.verdict": "refused", "gate.reason": reason}
    found = page(workspace, champion="1", **tags, **{"gate.interval_coverage_90": f"fail: {reason}"})
    assert f'class="verdict red"><h2>volvae version 3: refused</h2><p>{reason}</p>' in found
    assert f"<b>failed</b>: {reason}" in found


@pytest.mark.parametrize(
    ("champion", "tags", "setting", "reservation"),
    [
        ("2", {}, {}, "version 2 stays champion; `volvae promote 3` exchanges it"),
        ("3", {"git.dirty": "true"}, {}, "the code differs from its commit"),
        ("3", {"volvae.parent": "2"}, {}, "it was not compared with version 2, which was champion"),
        ("3", {}, {"register__gate__coverage_90": ...}, "register.gate.coverage_90 is null: this is not checked"),
    ],
)
def test_a_reservation_is_amber(
    workspace: Workspace, champion: str, tags: dict[str, str], setting: dict[str, Any], reservation: str
) -> None:
    if setting:
        path = workspace.folder / "params.yaml"
        workspace.set(register__gate__coverage_90="CHECK")
        path.write_text(path.read_text().replace("CHECK", "null"))
    found = page(workspace, champion, **tags)
    assert 'class="verdict amber"><h2>volvae version 3: accepted, with reservations' in found
    assert f"<li>{reservation}</li>" in found


def without(workspace: Workspace, **blocks: Any) -> str:
    """The report where all checks that may be left out are, after a change of other settings."""
    switches = ("coverage_90", "arbitrage_rate", "data_arbitrage", "opponent_ratio", "scenario_ratio")
    workspace.set(**{f"register__gate__{name}": "CHECK" for name in switches}, **blocks)
    path = workspace.folder / "params.yaml"
    path.write_text(path.read_text().replace("CHECK", "null"))
    return page(workspace)


@pytest.mark.parametrize(
    ("blocks", "has"),
    [
        ({}, {"coverage_90", "arbitrage_rate", "opponent_ratio"}),
        (
            {
                "prepare__source": "quotes",
                "prepare__quotes": QUOTES,
                "train__dynamics": {"form": "reverting"},
                "train__model__transform": "log",
            },
            {"coverage_90", "arbitrage_rate", "data_arbitrage", "opponent_ratio", "scenario_ratio"},
        ),
        ({"prepare__source": "array", "prepare__array": {"path": "x.npy"}}, {"coverage_90", "opponent_ratio"}),
        ({"prepare__source": "array", "prepare__array": {"path": "x.npy", "likelihood": "bernoulli"}}, set()),
    ],
)
def test_each_check_that_is_left_out_is_a_reservation(
    workspace: Workspace, blocks: dict[str, Any], has: set[str]
) -> None:
    """Of those that the data and the model have."""
    found = without(workspace, **blocks)
    assert set(re.findall(r"register\.gate\.(\w+) is null: this is not checked", found)) == has
    assert ("verdict amber" in found) is bool(has)


def test_a_version_that_was_compared_has_no_reservation(workspace: Workspace) -> None:
    compared = {"volvae.parent": "2", "gate.gain_nats_low": "pass: gain_nats_low 0, wanted at least -2"}
    assert 'class="verdict green"' in page(workspace, **compared)
