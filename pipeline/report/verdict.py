"""The verdict of the gate as the first thing on the report, which the stage evaluate writes before there is one."""

import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple

CARD, DRIFT = "model_card.md", "drift.html"  # beside the report
UNJUDGED = (
    '<section class="verdict unjudged"><h2>Not judged yet</h2>'
    "<p>The stage register puts the verdict of the gate here.</p></section>"
)


class Judged(NamedTuple):
    """A registered version before its readers.

    Attributes:
        title: model and version.
        accepted: whether the gate accepts it; None where no gate has judged it.
        reason: of the verdict.
        checks: of the gate: whether each is passed, and what it says.
        reservations: what an accepted version still lacks; none where nothing is to be said.
        facts: when and of what it was made.
    """

    title: str
    accepted: bool | None
    reason: str
    checks: Sequence[tuple[bool, str]]
    reservations: Sequence[str]
    facts: Mapping[str, str]


def judged_page(page: str, judged: Judged) -> str:
    """The report with the verdict in the place that the stage evaluate left for it."""
    return page.replace(UNJUDGED, _section(judged), 1)


def _section(judged: Judged) -> str:
    """Red: refused. Amber: accepted, with reservations. Green: accepted without any."""
    if not judged.accepted:
        colour, words = "red", "refused"
    else:
        colour, words = ("amber", "accepted, with reservations") if judged.reservations else ("green", "accepted")
    checks = "".join(
        f"<li>{'passed' if passed else '<b>failed</b>'}: {html.escape(text)}</li>" for passed, text in judged.checks
    )
    more = "".join(f"<li>{html.escape(text)}</li>" for text in judged.reservations)
    facts = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in judged.facts.items())
    return (
        f'<section class="verdict {colour}"><h2>{html.escape(judged.title)}: {words}</h2>'
        f"<p>{html.escape(judged.reason)}</p>{f'<ul>{more}</ul>' if more else ''}"
        f"<details><summary>Checks of the gate</summary><ul>{checks}</ul></details><dl>{facts}</dl>"
        f'<p><a href="{CARD}">Model card</a>: what it is for, and where it ends. <a href="{DRIFT}">Drift</a> of newer '
        "data, once <code>volvae drift</code> has looked at them.</p></section>"
    )
