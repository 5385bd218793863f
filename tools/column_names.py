"""make deps: write the names of columns that the field uses into the explorer, which reads quotes in the browser."""

import json
from pathlib import Path

from pipeline.cli.column_names import FIELD_NAMES, says_normal

NAMES = Path("deploy/explorer/column-names.js")
# What the explorer reads. A name that prices may have, such as bid, is none of vols there: it has no prices. Nor is one
# of normal vols.
_READ = (
    *("date", "expiry", "tenor", "tenor_years", "days", "log_moneyness", "moneyness", "call_delta", "delta", "strike"),
    *("forward", "iv", "bid_iv", "ask_iv", "weight"),
)
_PRICES = ("price", "bid", "ask")
_OWN = {"moneyness": ["moneyness", "mny", "kf"]}  # K / forward there, which needs no spot, and here K / spot


def text() -> str:
    """The text of the module."""
    of_prices = {name for canonical in _PRICES for name in FIELD_NAMES[canonical]}
    others = {name for names in FIELD_NAMES.values() for name in names if name in of_prices or says_normal(name)}
    found = {canonical: [name for name in FIELD_NAMES[canonical] if name not in others] for canonical in _READ}
    lines = [f"  {canonical}: {json.dumps(names)}," for canonical, names in (found | _OWN).items()]
    head = (
        "// Names of columns without case, blanks and signs: those of pipeline/cli/column_names.py, by",
        "// `make deps`.",
        "export const NAMES = {",
    )
    return "\n".join((*head, *lines, "};", ""))


if __name__ == "__main__":
    NAMES.write_text(text(), "utf-8")
