"""Figures of one market: their names among the flat figures of results."""

import re
from collections.abc import Iterable, Mapping


def name_of(figure: str, market: str) -> str:
    """The name of a figure for one market.

    Letters, digits, ``_`` and ``.`` of the market stay; every other character becomes ``-`` and two hexadecimal digits
    for each byte of its UTF-8. So two markets never share a name, and MLflow and DVC take it.

    >>> name_of("elbo_nats", "EUR/USD")
    'elbo_nats_market_EUR-2fUSD'
    """
    safe = re.sub(r"[^A-Za-z0-9_.]", lambda found: "".join(f"-{byte:02x}" for byte in found[0].encode()), market)
    return f"{figure}_market_{safe}"


def by_market(figures: Mapping[str, float], figure: str, markets: Iterable[str]) -> dict[str, float]:
    """The values of a figure by market, of the markets that have it."""
    names = {market: name_of(figure, market) for market in markets}
    return {market: figures[name] for market, name in names.items() if name in figures}
