"""Tables with several quotes a row: the blocks ``wide``, ``call_put`` and ``fx`` of ``prepare.quotes``."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.errors import listed
from pipeline.settings.types import Block, Name, Number


class WideParams(Block):
    """Vols with a column for each strike, moneyness, delta or tenor; see docs/quotes.md."""

    coordinate: Literal["strike", "moneyness", "log_moneyness", "call_delta", "delta", "days", "tenor_years"]
    columns: Annotated[dict[Name, Number], Field(min_length=1)] | Literal["numbers"]

    def made(self) -> dict[str, str]:
        """The canonical columns that the layout makes, with what they are made of."""
        names = "named by a number" if self.columns == "numbers" else listed(self.columns)
        made = {self.coordinate: f"names of the columns {names}", "iv": names}
        return made | ({"spot": "1, as the columns are shares of it"} if self.coordinate == "moneyness" else {})


class SideColumns(Block):
    """The columns of the calls, or of the puts, of a table with both in a row."""

    iv: Name | None = None
    bid_iv: Name | None = None
    ask_iv: Name | None = None
    price: Name | None = None
    bid: Name | None = None
    ask: Name | None = None
    volume: Name | None = None
    open_interest: Name | None = None
    weight: Name | None = None

    @property
    def names(self) -> dict[str, str]:
        """The columns by canonical name."""
        return {key: name for key, name in self.model_dump().items() if name is not None}


class CallPutParams(Block):
    """Calls and puts in one row; see docs/quotes.md."""

    call: SideColumns
    put: SideColumns

    @model_validator(mode="after")
    def _name_the_same(self) -> Self:
        call, put = self.call.names, self.put.names
        if set(call) != set(put):
            raise ValueError(f"call and put must name the same columns, not {', '.join(call)} and {', '.join(put)}")
        return self

    def made(self) -> dict[str, str]:
        """The canonical columns that the layout makes, with what they are made of."""
        put = self.put.names
        return {"type": "call and put", **{key: f"{name} and {put[key]}" for key, name in self.call.names.items()}}


class FxWing(Block):
    """The columns of one delta of a table of risk reversals and butterflies."""

    delta: Annotated[float, Field(gt=0.0, lt=0.5)]
    risk_reversal: Name
    butterfly: Name


class FxParams(Block):
    """At-the-money vols, risk reversals and butterflies by tenor, and how a market quotes them; see docs/quotes.md."""

    atm: Name
    wings: Annotated[list[FxWing], Field(min_length=1)]
    delta: Literal["forward", "spot", "spot_to_1y"]
    premium_adjusted: bool
    atm_strike: Literal["delta_neutral", "forward", "spot"]
    strangle: Literal["smile", "market"]

    @model_validator(mode="after")
    def _has_distinct_deltas(self) -> Self:
        deltas = [wing.delta for wing in self.wings]
        if len(set(deltas)) < len(deltas):
            raise ValueError(f"wings: each delta once, not {', '.join(f'{delta:g}' for delta in deltas)}")
        return self

    def made(self) -> dict[str, str]:
        """The canonical columns that the layout makes, with what they are made of."""
        names = listed([self.atm, *(name for wing in self.wings for name in (wing.risk_reversal, wing.butterfly))])
        return {"log_moneyness": f"strikes of {names}", "iv": names}
