"""The block ``prepare.quotes`` of params.yaml: a file of quotes, its columns, units and limits."""

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from pipeline.settings.quote_layout import CallPutParams, FxParams, WideParams
from pipeline.settings.times import TimeOfDay, Zone, zone_in
from pipeline.settings.types import Block, Count, Name, NotNegative, Number, Positive, Range, Share, Shares
from vae.surface.plausible import MEDIAN_VOL
from vae.surface.units import DAYS_PER_YEAR

_EXCEL = "excel"  # the format of days as Excel counts them, as pipeline/tables/dates.py has it


def _day(value: object) -> object:
    """A day written as text, where it is one; YAML reads a bare 2023-02-15 as a date itself."""
    return dt.date.fromisoformat(value) if isinstance(value, str) else value


Day = Annotated[dt.date, BeforeValidator(_day)]


def _date_format(form: str) -> str:
    """A format of ``strptime`` that says day, month and year, or that of days as Excel counts them."""
    if form == _EXCEL:
        return form
    day = dt.date(2021, 12, 31)
    try:
        if dt.datetime.strptime(day.strftime(form), form).date() == day:
            return form
    except ValueError:
        pass
    raise ValueError(f"{form!r} must say day, month and year, as '%d/%m/%Y' does, or be {_EXCEL}")


DateFormat = Annotated[str, AfterValidator(_date_format)]


class QuoteColumns(Block):
    """The user's name of each canonical column; see docs/quotes.md."""

    date: Name | None = None
    snapshot: Name | None = None
    market: Name | None = None
    tenor_years: Name | None = None
    days: Name | None = None
    tenor: Name | None = None
    expiry: Name | None = None
    log_moneyness: Name | None = None
    call_delta: Name | None = None
    delta: Name | None = None
    strike: Name | None = None
    moneyness: Name | None = None
    forward: Name | None = None
    spot: Name | None = None
    rate: Name | None = None
    dividend_yield: Name | None = None
    iv: Name | None = None
    bid_iv: Name | None = None
    ask_iv: Name | None = None
    price: Name | None = None
    bid: Name | None = None
    ask: Name | None = None
    type: Name | None = None
    weight: Name | None = None
    exercise: Name | None = None
    quoted_at: Name | None = None
    volume: Name | None = None
    open_interest: Name | None = None

    @model_validator(mode="after")
    def _describes_quotes(self) -> Self:
        self._one_of("tenor_years", "days", "tenor", "expiry")
        place = self._one_of("log_moneyness", "call_delta", "delta", "strike", "moneyness")
        quote = self._one_of("iv", "bid_iv", "price", *(() if self.filtered_by_bid else ("bid",)))
        for first, second in (("bid_iv", "ask_iv"), ("bid", "ask")):
            if (getattr(self, first) is None) != (getattr(self, second) is None):
                raise ValueError(f"{first} and {second} go together")
        if quote in ("price", "bid") and self.type is None:
            raise ValueError(f"{quote} needs type, a column of call and put")
        if quote in ("price", "bid") and place in ("log_moneyness", "call_delta", "delta"):
            raise ValueError(f"prices are read by strike or moneyness, not by {place}")
        if place == "moneyness" and self.spot is None:
            raise ValueError("moneyness (strike / spot) needs spot")
        if place == "strike" and self.forward is None and self.spot is None and not self.priced:
            raise ValueError("strike needs forward, or spot, or prices of calls and puts (price or bid and ask)")
        return self

    @property
    def by_delta(self) -> bool:
        """Whether quotes are placed by delta."""
        return self.call_delta is not None or self.delta is not None

    @property
    def priced(self) -> bool:
        """Whether quotes are prices rather than vols."""
        return self.price is not None or (self.bid is not None and not self.filtered_by_bid)

    @property
    def filtered_by_bid(self) -> bool:
        """Whether bid and ask stand beside the quotes, and only tell which of them are dead."""
        return self.bid is not None and (self.iv is not None or self.price is not None)

    def _one_of(self, *names: str) -> str:
        """The one canonical column of ``names`` that is set."""
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ValueError(f"exactly one of {', '.join(names)} must be set, not {got}")
        return given[0]


HIGHEST_RATE = 0.1  # decimal a year: a higher one must be confirmed by rate_unit, as 0.15 may be 0.15 %
_NEEDED_COLUMNS = {
    "markets": "market",
    "max_age_days": "quoted_at",
    "min_volume": "volume",
    "min_open_interest": "open_interest",
}
_LAYOUTS = ("wide", "call_put", "fx")


class QuotesParams(Block):
    """Quotes in a file of the user, one row a quote; see docs/quotes.md."""

    path: Name
    sheet: Name | None = None
    decimal_mark: Literal[".", ","] | None = None
    date_format: DateFormat | dict[Literal["date", "expiry", "snapshot", "quoted_at"], DateFormat] | None = None
    wide: WideParams | None = None
    call_put: CallPutParams | None = None
    fx: FxParams | None = None
    columns: QuoteColumns
    conditions: dict[Name, Name] = {}
    date: Day | None = None
    markets: Annotated[list[Name], Field(min_length=1)] | None = None
    vol_unit: Literal["decimal", "percent", "bp"] = "decimal"
    vol_kind: Literal["black", "normal"] = "black"
    rate_unit: Literal["decimal", "percent"] | None = None
    price_unit: Literal["currency", "underlying"] = "currency"
    strike_scale: Positive = 1.0
    delta_unit: Literal["decimal", "percent"] = "decimal"
    delta_kind: Literal["forward", "spot"] = "forward"
    delta_sign: Literal["signed", "absolute"] = "signed"
    exercise: Literal["european", "american"] | None = None
    expiry_time: TimeOfDay | None = None
    quote_zone: Zone | None = None
    days_per_year: Positive | None = None
    clock: Literal["calendar", "business"] = "calendar"
    closed_day_weight: Share = 0.0
    holidays: list[Day] = []
    expected_vol: Range = Range(low=MEDIAN_VOL.low, high=MEDIAN_VOL.high)
    drop_where: Name | Annotated[list[Name], Field(min_length=1)] | None = None
    drop_placeholders: bool = True
    drop_repeated: bool = False
    min_volume: NotNegative | None = None
    min_open_interest: NotNegative | None = None
    max_relative_spread: Positive | None = None
    min_vol: NotNegative = 0.001
    max_vol: Positive = 5.0
    max_age_days: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    min_points: Count = 5
    rate: Number = 0.0
    dividend_yield: Number = 0.0
    max_conflicting: Share = 0.1
    max_rejected: Share = 0.5
    max_arbitrage: Share = 0.1
    splits: Shares = Shares()

    @field_validator("columns", mode="before")
    @classmethod
    def _with_those_of_the_layout(cls, columns: object, info: ValidationInfo) -> object:
        """The columns of the file, and those that a layout makes."""
        layouts = {name: info.data[name] for name in _LAYOUTS if info.data.get(name) is not None}
        if not layouts or not isinstance(columns, Mapping):
            return columns
        if len(layouts) > 1:
            raise ValueError(f"a table has one layout, not {' and '.join(layouts)}")
        (name, layout) = layouts.popitem()
        made = layout.made()
        twice = [key for key in made if columns.get(key) not in (None, made[key])]
        if twice:
            raise ValueError(f"prepare.quotes.{name} makes the column {twice[0]}")
        return {**columns, **made}

    @model_validator(mode="after")
    def _has_rates(self) -> Self:
        """Rates that deltas and strikes of foreign exchange depend on must be said, even where they are 0."""
        for name in self.rates_of_fx:
            if getattr(self.columns, name) is None and name not in self.model_fields_set:
                raise ValueError(f"fx with spot deltas or strikes needs {name} or columns.{name}, even if it is 0")
        return self

    @property
    def rates_of_fx(self) -> list[str]:
        """The rates on which deltas and strikes of foreign exchange depend."""
        if self.fx is None:
            return []
        at_spot = self.fx.atm_strike == "spot" and not (self.columns.forward and self.columns.spot)
        return ["rate"] * at_spot + ["dividend_yield"] * (at_spot or self.fx.delta != "forward")

    @property
    def layout(self) -> WideParams | CallPutParams | FxParams | None:
        """How a row holds several quotes; None where it holds one."""
        return self.wide or self.call_put or self.fx

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        dated = [name for name in ("date", "snapshot") if getattr(self.columns, name) is not None]
        if bool(dated) == (self.date is not None):
            raise ValueError("exactly one of columns.date and date must be set, or columns.snapshot")
        for setting, column in _NEEDED_COLUMNS.items():
            if getattr(self, setting) is not None and getattr(self.columns, column) is None:
                raise ValueError(f"{setting} needs columns.{column}")
        self._check_units()
        self._check_deltas()
        self._check_exercise()
        self._check_clock()
        return self

    def date_format_of(self, column: str) -> str | None:
        """How the dates of a canonical column are written, as ``strptime`` has it; None where they show it."""
        form = self.date_format
        return form.get(column) if isinstance(form, dict) else form  # type: ignore[call-overload]

    def _check_units(self) -> None:
        columns = self.columns
        if columns.priced and (self.vol_unit != "decimal" or self.vol_kind != "black"):
            name = "vol_unit" if self.vol_unit != "decimal" else "vol_kind"
            raise ValueError(f"{name} is for vols, but the columns are prices")
        if self.vol_kind == "normal" and columns.strike is None and columns.moneyness is None:
            raise ValueError("vol_kind: normal needs strike or moneyness, as normal vols are amounts of the forward")
        if self.price_unit == "underlying" and not columns.priced:
            raise ValueError("price_unit is for prices, but the columns are vols")
        if self.price_unit == "underlying" and columns.forward is None and columns.spot is None:
            raise ValueError("price_unit: underlying needs forward or spot, of which prices are shares")
        if self.strike_scale != 1.0 and columns.strike is None and columns.moneyness is None:
            raise ValueError("strike_scale needs columns.strike or columns.moneyness")
        for name, rate in (("rate", self.rate), ("dividend_yield", self.dividend_yield)):
            if abs(rate) > (1.0 if self.rate_unit == "decimal" else HIGHEST_RATE):
                sure = "" if abs(rate) > 1.0 else f", or set rate_unit: decimal where it is {100.0 * rate:g} %"
                raise ValueError(
                    f"{name} is decimal a year: {rate:g} is {100.0 * rate:g} %; write {rate / 100.0:g} for {rate:g} %"
                    + sure
                )

    def _check_deltas(self) -> None:
        columns = self.columns
        if not columns.by_delta and (self.delta_unit != "decimal" or self.delta_kind != "forward"):
            name = "delta_unit" if self.delta_unit != "decimal" else "delta_kind"
            raise ValueError(f"{name} needs columns.delta or call_delta")
        if self.delta_sign == "absolute" and (columns.delta is None or columns.type is None):
            raise ValueError("delta_sign: absolute needs columns.delta and columns.type")
        if self.delta_kind == "spot" and not self._says("dividend_yield"):
            raise ValueError("delta_kind: spot needs dividend_yield, the rate of the foreign currency, or its column")

    def _check_exercise(self) -> None:
        if self.exercise != "american" or not self.columns.priced:
            return
        if self.columns.spot is None or not self._says("rate"):
            raise ValueError(
                "exercise: american needs columns.spot, and rate or its column, to take early exercise out"
            )
        if self.price_unit == "underlying":
            raise ValueError("exercise: american is for prices in currency, not for price_unit: underlying")

    def _check_clock(self) -> None:
        business = self.clock == "business"
        if self.columns.expiry is None and self.columns.days is None and (self.expiry_time is not None or business):
            raise ValueError(f"{'clock: business' if business else 'expiry_time'} needs columns.expiry or columns.days")
        if self.days_per_year is not None and self.columns.days is None:
            raise ValueError("days_per_year needs columns.days")
        if self.days_per_year not in (None, DAYS_PER_YEAR) and (self.expiry_time is not None or business):
            raise ValueError(
                f"expiry_time and clock: business count calendar days, but days_per_year is {self.days_per_year:g}"
            )
        if not business and (self.closed_day_weight or self.holidays):
            raise ValueError("closed_day_weight and holidays need clock: business")
        zoned = self.expiry_time is not None and zone_in(self.expiry_time) is not None
        if zoned != (self.quote_zone is not None):
            raise ValueError(
                "quote_zone and the zone of expiry_time, as in '16:00 America/New_York', go together; without both, "
                "all times are on one clock"
            )

    def _says(self, name: str) -> bool:
        """Whether a rate is given by its column or its setting."""
        return getattr(self.columns, name) is not None or name in self.model_fields_set
