from collections.abc import Sequence
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


def page(workspace: Workspace, champion: str = "3", unchecked: Sequence[str] = (), **tags: str) -> str:
    """The report of version 3 with these tags beside the common ones."""
    version = Version("3", "run", datetime(2026, 3, 2, 10, 30, tzinfo=UTC), TAGS | tags)
    reason = tags.get("gate.reason", "all passed")
    facts = judged(version, reason, champion, workspace.params(), unchecked, title="volvae version 3")
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
    ("champion", "tags", "unchecked", "reservation"),
    [
        ("2", {}, [], "version 2 stays champion; `volvae promote 3` exchanges it"),
        ("3", {"git.dirty": "true"}, [], "the code differs from its commit"),
        ("3", {"volvae.parent": "2"}, [], "it was not compared with version 2, which was champion"),
        ("3", {}, ["the law of motion is not checked"], "the law of motion is not checked"),
    ],
)
def test_a_reservation_is_amber(
    workspace: Workspace, champion: str, tags: dict[str, str], unchecked: list[str], reservation: str
) -> None:
    found = page(workspace, champion, unchecked, **tags)
    assert 'class="verdict amber"><h2>volvae version 3: accepted, with reservations' in found
    assert f"<li>{reservation}</li>" in found


def test_a_version_that_was_compared_has_no_reservation(workspace: Workspace) -> None:
    compared = {"volvae.parent": "2", "gate.gain_nats_low": "pass: gain_nats_low 0, wanted at least -2"}
    assert 'class="verdict green"' in page(workspace, **compared)
