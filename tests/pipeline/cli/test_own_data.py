"""inspect, init and check on small files of quotes."""

import datetime as dt
import json
import shlex
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from pipeline.cli.main import main
from pipeline.cli.quotes_options import ReadingOptions, settings_of
from pipeline.cli.suggested_settings import training
from pipeline.settings.params import read_params
from tests.chains import chain

DEMO = Path(__file__).parents[3] / "deploy/demo/bundle"
FORWARD = 4000.0
CHANGED = {
    "source", "convention", "tenors_days", "nodes", "quotes", "latents", "basis", "width", "depth",
    "residual_factors", "half_life_days", "refit", "scaffold_latents", "epochs", "batch", "learning_rate",
    "weight_decay", "hidden_share",
}  # fmt: skip


def volvae(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def inspected(*arguments: str) -> dict:
    return json.loads(volvae("inspect", *arguments, "--json").stdout)


def smile(k: np.ndarray, tenor: float) -> np.ndarray:
    return 0.2 - 0.1 * k / np.sqrt(tenor) + 0.2 * k**2


def write(path: Path, header: str, rows: list[tuple]) -> str:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def currency_file(folder: Path, *, dates: int = 120) -> str:
    """Quotes of some dates by call delta."""
    day = np.datetime64("2020-01-01")
    rows = [
        (
            day + date,
            years,
            delta,
            round(0.1 + 0.01 * years + 0.02 * (delta - 0.5) ** 2 + 1e-4 * date, 6),
            date % 9 == 0,
        )
        for date in range(dates)
        for years in (0.25, 1.0)
        for delta in (0.1, 0.25, 0.5, 0.75, 0.9)
    ]
    return write(folder / "fx.csv", "Date,Tenor_Years,Delta,Vol,suspect", rows)


def chain_file(folder: Path, *, unit: float = 1.0) -> str:
    """Bid and ask vols of one day by strike, with expiries and tenors but no date."""
    rows = []
    for expiry, days in (("20230317", 30), ("20230515", 89)):
        for strike in range(3200, 4801, 100):
            vol = unit * float(smile(np.log(strike / FORWARD), days / 365))
            rows.append(
                (expiry, days / 365, strike, round(vol - 0.005 * unit, 6), round(vol + 0.005 * unit, 6), FORWARD)
            )
    return write(folder / "chain.csv", "Expiry,Texp,Strike,Bid,Ask,Fwd", rows)


@pytest.fixture
def project(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped params.yaml, made the current one."""
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text("utf-8"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_by_deltas_gets_their_grid_and_a_model_of_its_size(tmp_path: Path) -> None:
    (reading,) = inspected(currency_file(tmp_path))["readings"]
    assert (reading["rows"], reading["used"], reading["surfaces"]) == (1200, 1200, 120)
    assert reading["block"]["columns"] == {
        "date": "Date", "tenor_years": "Tenor_Years", "call_delta": "Delta", "iv": "Vol",
    }  # fmt: skip
    assert reading["grid"] == {
        "convention": "delta", "tenors_days": [91.25, 365.0], "nodes": [0.1, 0.25, 0.5, 0.75, 0.9],
    }  # fmt: skip
    assert reading["filled_rate"] == 1.0
    assert reading["train"]["model"]["basis"] <= 10
    text = volvae("inspect", str(tmp_path / "fx.csv")).stdout
    assert "suspect is true in 140 rows; --set drop_where=suspect leaves these out" in text
    assert "columns: {date: Date, tenor_years: Tenor_Years, call_delta: Delta, iv: Vol}" in text


def test_init_writes_what_reads_the_file_and_keeps_the_rest(project: Path) -> None:
    before = (project / "params.yaml").read_text("utf-8")
    result = volvae("init", currency_file(project), "--set", "drop_where=suspect")
    assert result.exit_code == 0, result.output
    assert "next: `make run`, or `dvc repro`" in result.stdout
    after = (project / "params.yaml").read_text("utf-8")
    for comment in ("# size of z: as many as Heston has parameters", "# box of the parameters, which are uniform"):
        assert comment in before
        assert comment in after
    dropped = [line.strip() for line in before.splitlines() if line.strip() not in after]
    assert all(line.partition(":")[0] in CHANGED for line in dropped), dropped
    params = read_params()
    assert params.prepare.source == "quotes"
    assert params.prepare.quotes is not None
    assert (params.prepare.quotes.path, params.prepare.quotes.drop_where) == ("fx.csv", "suspect")
    assert params.train.model.latents == 2
    assert params.export == read_params_of(before, project).export
    again = volvae("init", "fx.csv", "--set", "drop_where=suspect")
    assert "params.yaml: nothing changed" in again.stdout
    assert (project / "params.yaml").read_text("utf-8") == after


def read_params_of(text: str, folder: Path):
    (folder / "before.yaml").write_text(text)
    return read_params(folder / "before.yaml")


def test_init_replaces_another_file_only_if_told(project: Path) -> None:
    assert volvae("init", currency_file(project)).exit_code == 0
    kept = (project / "params.yaml").read_bytes()
    other = currency_file(project, dates=110).replace("fx.csv", "other.csv")
    Path("fx.csv").rename(other)
    refused = volvae("init", other)
    assert refused.exit_code == 2
    assert "params.yaml has another prepare.quotes, of fx.csv; --force replaces it" in refused.stderr
    assert (project / "params.yaml").read_bytes() == kept
    assert volvae("init", other, "--force").exit_code == 0
    assert YAML(typ="safe").load(Path("params.yaml"))["prepare"]["quotes"]["path"] == "other.csv"


@pytest.mark.parametrize("text", ["a: [1", "[" * 100_000, "prepare: 3"])
def test_init_refuses_what_is_no_params_yaml(project: Path, text: str) -> None:
    file = currency_file(project)
    (project / "params.yaml").write_text(text)
    refused = volvae("init", file)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("volvae: params.yaml ")
    assert len(refused.stderr.splitlines()) == 1
    assert (project / "params.yaml").read_text() == text


def test_init_where_there_is_no_params_yaml_says_how_to_read_the_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written again as another file, and `inspect` reads the file by it."""
    monkeypatch.chdir(tmp_path)
    file = currency_file(tmp_path)
    for _ in range(2):
        written = volvae("init", file)
        assert written.exit_code == 0, written.stderr
        assert "a model is trained in a clone of the project" in written.stdout
    content = YAML(typ="safe").load(Path("params.yaml"))
    assert list(content) == ["prepare"]
    assert list(content["prepare"]) == ["quotes"]
    expected = settings_of(Path(file), ReadingOptions(Path("params.yaml"), {}, {}))
    assert settings_of(Path(file), ReadingOptions(None, {}, {})) == expected
    assert expected.columns.iv == content["prepare"]["quotes"]["columns"]["iv"]
    refused = volvae("check")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("volvae: params.yaml says how to read a file of quotes and nothing else")
    assert "run `volvae init` on that file in a clone of the project" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_init_makes_no_file_of_a_name_that_was_mistyped(project: Path) -> None:
    refused = volvae("init", currency_file(project), "--params", "parms.yaml")
    assert refused.exit_code == 2
    assert refused.stderr == "volvae: parms.yaml does not exist; without --params, params.yaml is written here\n"
    assert not (project / "parms.yaml").exists()


def test_a_format_of_dates_is_set_as_it_is_shown(tmp_path: Path) -> None:
    """Without the quotes that YAML asks for; what names its own remedy is not followed by another."""
    rows = [("06.10.2021", "11.12.2021", 74 + i, 100, 0.4) for i in range(20)]
    path = write(tmp_path / "e.csv", "date,expiry,strike,spot,iv", rows)
    printed = volvae("inspect", path).stdout
    assert "set prepare.quotes.date_format to '%d.%m.%Y' or '%m.%d.%Y'" in printed
    assert "it needs columns" not in printed
    (reading,) = inspected(path, "--set", "date_format=%d.%m.%Y")["readings"]
    assert reading["tenors_days"] == [66.0, 66.0, 66.0]


def test_a_setting_that_is_no_yaml_is_named(project: Path) -> None:
    refused = volvae("inspect", currency_file(project), "--set", "drop_where=[a")
    assert refused.exit_code == 2
    assert "'[a' is not a value of YAML: " in refused.stderr


def test_a_chain_of_one_day_is_dated_by_its_expiries_and_trains_nothing(project: Path) -> None:
    path = chain_file(project)
    found = inspected(path)
    assert found["date"] == "2023-02-15"
    (reading,) = found["readings"]
    assert {key: reading["block"]["columns"][key] for key in ("bid_iv", "ask_iv", "strike")} == {
        "bid_iv": "Bid", "ask_iv": "Ask", "strike": "Strike",
    }  # fmt: skip
    result = volvae("init", path)
    assert "1 surface cannot train a model" in volvae("inspect", path).stdout
    assert f"next: `volvae complete {path} -o surface.csv`; " in result.stdout
    (project / "demo/bundle").mkdir(parents=True)
    again = volvae("init", path, "--force")
    assert f"next: `volvae complete {path} --bundle demo/bundle -o surface.csv`; " in again.stdout
    (project / "artifacts/bundle").mkdir(parents=True)
    assert "--bundle" not in volvae("init", path, "--force").stdout
    prepare = read_params().prepare
    assert prepare.source == "heston"
    assert prepare.quotes is not None
    assert prepare.quotes.date.isoformat() == "2023-02-15"


@pytest.mark.parametrize(("unit", "name"), [(100.0, "percent"), (1e4, "bp")])
def test_a_unit_that_alone_is_plausible_is_found(tmp_path: Path, unit: float, name: str) -> None:
    (reading,) = inspected(chain_file(tmp_path, unit=unit), "--set", "vol_kind=black")["readings"]
    assert reading["block"]["vol_unit"] == name
    assert reading["vols_percent"][1] == pytest.approx(20.0, abs=3.0)


def test_two_plausible_units_are_listed_and_neither_is_written(project: Path) -> None:
    """150 % a year, or 1.5 %; strikes 20 % off would be too far for the second."""
    rows = [(30, round(k, 3), 1.5 + k**2) for k in np.linspace(-0.04, 0.04, 9)]
    path = write(project / "wild.csv", "days,log_moneyness,iv", rows)
    before = (project / "params.yaml").read_bytes()
    found = inspected(path)
    assert found["choices"] == ["--vol-unit decimal", "--vol-unit percent"]
    refused = volvae("init", path, "--date", "2024-01-02")
    assert refused.exit_code == 2
    assert (
        "can be read in 2 ways; choose one by its options:\n  --vol-unit decimal\n  --vol-unit percent"
        in refused.stderr
    )
    assert (project / "params.yaml").read_bytes() == before
    assert volvae("init", path, "--vol-unit", "decimal", "--date", "2024-01-02").exit_code == 0


def test_vols_and_prices_of_one_chain_are_two_readings(tmp_path: Path) -> None:
    """And prices are no vols in another unit: those of calls and puts differ."""
    rows = []
    for strike in range(80, 121, 4):
        vol = float(smile(np.log(strike / 100), 0.5))
        for kind, put in (("C", 0.0), ("P", strike - 100.0)):
            price = black_call(100.0, strike, vol * np.sqrt(0.5)) + put
            rows.append(("2024-07-01", "2024-01-01", strike, kind, price - 0.01, price + 0.01, vol - 0.01, 100))
    path = write(
        tmp_path / "o.csv", "expiration,quote_date,strike,option_type,bid,ask,impl_volatility,underlying_price", rows
    )
    assert inspected(path)["choices"] == ["--columns iv=impl_volatility", "--columns bid=bid,ask=ask"]
    why = "column bid: calls and puts of one strike differ, so they are no vols"
    assert f"not used: {path}: {why}" in volvae("inspect", path).stdout.splitlines()
    (chosen,) = inspected(path, "--columns", "iv=impl_volatility")["readings"]
    assert chosen["block"]["columns"]["iv"] == "impl_volatility"


def test_calls_and_puts_in_one_row_are_found(tmp_path: Path) -> None:
    rows = [
        ("2024-01-02", 91, strike, 100, *([round(float(smile(np.log(strike / 100), 0.25)), 5)] * 2))
        for strike in range(80, 121, 5)
    ]
    path = write(tmp_path / "w.csv", "[QUOTE_DATE],[DTE],[STRIKE],[UNDERLYING_LAST],[C_IV],[P_IV]", rows)
    found = inspected(path)
    (reading,) = found["readings"]
    assert reading["block"]["call_put"] == {"call": {"iv": "[C_IV]"}, "put": {"iv": "[P_IV]"}}
    assert found["columns"]["[P_IV]"] == "iv"
    assert (reading["rows"], reading["rejected"]) == (18, {"in_the_money": 9})


def test_vols_in_columns_named_by_moneyness_are_found(tmp_path: Path) -> None:
    rows = [(f"2024-01-{day:02}", "1Y", *(0.2 - 0.1 * (m - 1.0) for m in (0.8, 1.0, 1.2))) for day in range(2, 9)]
    (reading,) = inspected(write(tmp_path / "t.csv", "Date,Tenor,80%,100%,120%", rows))["readings"]
    assert reading["block"]["wide"] == {"coordinate": "moneyness", "columns": "numbers"}
    assert reading["block"]["columns"] == {"date": "Date", "tenor": "Tenor"}
    assert reading["vols_percent"] == pytest.approx([18.0, 20.0, 22.0])


CONVENTIONS = "fx={delta: forward, premium_adjusted: false, atm_strike: delta_neutral, strangle: smile}"


def test_a_table_of_risk_reversals_is_read_once_its_conventions_are_stated(project: Path) -> None:
    rows = [("2020-01-02", tenor, 10.0, -1.0, 0.3, -1.8, 1.1) for tenor in ("1M", "3M", "1Y")]
    path = write(project / "fx.csv", "Date,Tenor,ATM,25D RR,25D BF,RR10,BF10", rows)
    printed = volvae("inspect", path).stdout
    assert "columns ATM, 25D RR, 25D BF, RR10, BF10 are at-the-money vols, risk reversals and butterflies" in printed
    assert "state them by --set 'fx={delta: D, premium_adjusted: P, atm_strike: A, strangle: S}'" in printed
    assert volvae("init", path).exit_code == 2

    found = inspected(path, "--set", CONVENTIONS)
    (reading,) = found["readings"]
    assert reading["used"] == 15
    assert reading["block"]["vol_unit"] == "percent"
    assert found["columns"]["25D RR"] == "risk_reversal"
    assert not any("moneyness" in line for line in reading["assumed"])  # strikes that deltas give have one meaning
    assert volvae("init", path, "--set", CONVENTIONS).exit_code == 0
    written = YAML(typ="safe").load(project / "params.yaml")["prepare"]["quotes"]["fx"]
    assert written["wings"][1] == {"delta": 0.1, "risk_reversal": "RR10", "butterfly": "BF10"}


def black_call(forward: float, strike: float, total_vol: float) -> float:
    d1 = np.log(forward / strike) / total_vol + 0.5 * total_vol
    normal = NormalDist()
    return forward * normal.cdf(d1) - strike * normal.cdf(d1 - total_vol)


def test_a_file_that_cannot_be_read_says_what_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "tenor_years,log_moneyness,iv", [(26.0 + 30 * i, 0.0, 0.2) for i in range(9)])
    text = volvae("inspect", path).stdout
    assert "column tenor_years is named as tenor_years, but holds 26 to 266" in text
    assert "it needs columns of tenor" in text
    refused = volvae("init", path)
    assert refused.exit_code == 2
    found = inspected(path, "--columns", "days=tenor_years")
    assert found["readings"][0]["block"]["columns"]["days"] == "tenor_years"


def option_file(folder: Path, header: str, row: Callable[[float, float, float], tuple], *, titles: str = "") -> str:
    """Calls and puts of 91 and 182 days at nine strikes around 100, each row made of expiry, strike and vol."""
    rows = [
        row(days, strike, float(smile(np.log(strike / 100.0), days / 365)))
        for days in (91, 182)
        for strike in range(80, 121, 5)
    ]
    return write(folder / "chain.csv", titles + header, rows)


def prices(strike: float, days: float, vol: float) -> tuple[float, float]:
    call = black_call(100.0, strike, vol * np.sqrt(days / 365))
    return call, call - 100.0 + strike


def test_options_that_choose_a_reading_are_taken_as_they_are_shown(tmp_path: Path) -> None:
    """Names in brackets, as OptionsDX writes them, are lists in YAML unless they are quoted."""

    def row(days: float, strike: float, vol: float) -> tuple:
        call, put = prices(strike, days, vol)
        return ("2024-01-02", days, strike, 103.0, vol, vol, call, put)  # a spot beside the forward of parity

    header = "[QUOTE_DATE],[DTE],[STRIKE],[UNDERLYING_LAST],[C_IV],[P_IV],[C_LAST],[P_LAST]"
    path = option_file(tmp_path, header, row)
    choices = inspected(path)["choices"]
    assert len(choices) == 2
    for choice, side in zip(choices, ("[C_IV]", "[C_LAST]"), strict=True):
        (reading,) = inspected(path, *shlex.split(choice))["readings"]
        assert side in reading["block"]["call_put"]["call"].values()


def test_a_file_of_expiries_without_a_date_asks_for_it(project: Path) -> None:
    """It is not read as of 1970, from which its tenors would be of 50 years and more, or of 30 and plausible."""

    def row(days: float, strike: float, vol: float) -> tuple:
        return (np.datetime64("2005-01-03") + int(days), strike, 100.0, vol)

    path = option_file(project, "expiration,strike,forward,impliedVolatility", row)
    found = inspected(path)
    assert found["readings"] == []
    assert found["refusals"] == [
        "no column says when its rows were quoted, from which dates of expiry count: --date YYYY-MM-DD says it"
    ]
    refused = volvae("init", path)
    assert refused.exit_code == 2
    assert "--date YYYY-MM-DD" in refused.stderr
    (reading,) = inspected(path, "--date", "2005-01-03")["readings"]
    assert reading["tenors_days"] == [91.0, 136.5, 182.0]


def test_a_file_whose_tenors_need_no_date_shows_none(tmp_path: Path) -> None:
    path = option_file(tmp_path, "days,strike,forward,iv", lambda days, strike, vol: (days, strike, 100.0, vol))
    text = volvae("inspect", path).stdout
    assert "1970" not in text
    assert "`volvae init` needs it as --date YYYY-MM-DD" in text


def test_a_date_on_the_command_line_replaces_that_of_the_settings(tmp_path: Path) -> None:
    header = "expiry,strike,forward,iv"
    path = option_file(tmp_path, header, lambda days, strike, vol: (f"2024-0{5 + days // 91}-01", strike, 100.0, vol))
    columns = {name: name for name in header.split(",")}
    given = ReadingOptions(None, columns, {"date": "2024-01-01"})
    assert str(settings_of(Path(path), given).date) == "2024-01-01"
    assert str(settings_of(Path(path), given, date=dt.date(2024, 2, 1)).date) == "2024-02-01"


def test_calls_and_puts_whose_columns_share_names_are_told_apart_by_their_halves(tmp_path: Path) -> None:
    """The layout of CBOE's page: titles, then Calls, their columns, Strike, Puts, and theirs."""

    def row(days: float, strike: float, vol: float) -> tuple:
        expiry = (dt.date(2024, 1, 2) + dt.timedelta(days)).strftime("%a %b %d %Y")
        call, put = prices(strike, days, vol)
        return (expiry, "C1", call - 0.01, call + 0.01, strike, "P1", put - 0.01, put + 0.01)

    header = "Expiration Date,Calls,Bid,Ask,Strike,Puts,Bid,Ask"
    path = option_file(tmp_path, header, row, titles="\nINDEX,Last: 100\n")
    (reading,) = inspected(path, "--date", "2024-01-02")["readings"]
    assert reading["block"]["call_put"] == {
        "call": {"bid": "Bid[1]", "ask": "Ask[1]"}, "put": {"bid": "Bid[2]", "ask": "Ask[2]"},
    }  # fmt: skip
    assert reading["forward"] == pytest.approx([100.0, 100.0])
    swapped = option_file(tmp_path, "Expiration Date,Puts,Bid,Ask,Strike,Calls,Bid,Ask", row)
    assert inspected(swapped, "--date", "2024-01-02")["readings"] == []


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("Exp,ATM(Mid),25D RR(Mid),25D BF(Mid)", "are at-the-money vols, risk reversals and butterflies"),
        ("Exp,25D Put,ATM,25D Call", "columns 25D Put, 25D Call are vols by delta"),
    ],
)
def test_tables_by_delta_name_what_only_the_user_knows(tmp_path: Path, header: str, part: str) -> None:
    path = write(tmp_path / "grid.csv", header, [(f"{months}M", 20.0, 19.0, 18.5) for months in (1, 2, 3, 6, 9, 12)])
    assert any(part in why for why in inspected(path)["refusals"])


def test_the_option_that_reads_vols_by_delta_is_taken_as_it_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "grid.csv", "Exp,25D Put,25D Call", [(f"{months}M", 20.0, 18.5) for months in range(1, 7)])
    (shown,) = [why for why in inspected(path)["refusals"] if "by delta" in why]
    _, _, words = shown.partition("state it by ")
    (reading,) = inspected(path, *shlex.split(words.partition("', and ")[0] + "'"), "--vol-unit", "percent")["readings"]
    assert reading["used"] == 12


def test_names_of_contracts_are_said_to_be_no_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "instrument_name,mark_iv", [(f"BTC-27MAR26-{k}-C", 60.0) for k in range(90, 99)])
    (why,) = inspected(path)["refusals"]
    assert why.startswith("column instrument_name holds names of contracts such as BTC-27MAR26-90-C")


def test_arbitrage_of_too_few_quotes_is_not_called_none(tmp_path: Path) -> None:
    text = volvae("inspect", write(tmp_path / "one.csv", "days,log_moneyness,iv", [(91, 0.0, 0.2)])).stdout
    assert (
        "butterflies beyond 0.001 of the forward not known, as no smile has three quotes, calendars not known" in text
    )
    assert "1 expiry of 91" in text


def test_a_column_whose_name_says_percent_is_in_percent(tmp_path: Path) -> None:
    """Without the name, 1.5 could be 150 %."""
    path = option_file(tmp_path, "days,strikePrice,Forward,IV (%)", lambda days, k, vol: (days, k, 100.0, 7.5 * vol))
    (reading,) = inspected(path)["readings"]
    assert reading["block"]["vol_unit"] == "percent"
    assert reading["vols_percent"][1] == pytest.approx(1.5, rel=0.1)


def test_shares_with_a_blank_before_the_sign_say_nothing_of_the_vols(tmp_path: Path) -> None:
    rows = [(days, 0.24, 0.2, 0.18) for days in (30, 91, 182)]
    (reading,) = inspected(write(tmp_path / "wide.csv", "days,80 %,100 %,120 %", rows))["readings"]
    assert "vol_unit" not in reading["block"]  # decimal
    assert reading["vols_percent"] == pytest.approx([18.0, 20.0, 24.0])


def test_a_path_is_no_remedy(tmp_path: Path) -> None:
    """The line says what the file lacks although its name looks like an option."""
    path = write(tmp_path / "spx--2024.csv", "days,log_moneyness,iv", [(0, -0.1, 0.2), (0, 0.1, 0.2)])
    assert "it needs columns of tenor, of strike or delta" in volvae("inspect", path).stdout


def test_only_flags_that_are_nothing_else_are_offered(tmp_path: Path) -> None:
    """A volume of 1 is none, nor is a column that is true in all rows."""
    path = option_file(
        tmp_path,
        "days,strike,forward,iv,volume,all,in the money",
        lambda days, strike, vol: (days, strike, 100.0, vol, strike % 2, 1, strike > 100),
    )
    assert inspected(path)["flags"] == {"in the money": 8}


def test_check_names_the_faults_of_settings_and_of_their_file(project: Path) -> None:
    assert volvae("check").stdout == "params.yaml: all settings are right; heston surfaces need no file\n"
    volvae("init", currency_file(project))
    assert "fx.csv: 1,200 of 1,200 rows are usable" in volvae("check").stdout
    yaml = YAML()
    content = yaml.load(Path("params.yaml"))
    content["prepare"]["quotes"]["columns"] |= {"iv": "Volatility", "call_delta": "D"}
    yaml.dump(content, Path("params.yaml"))
    missing = volvae("check")
    assert missing.exit_code == 2
    assert "has no column D, Volatility" in missing.stderr.replace("Volatility, D", "D, Volatility")
    content["train"]["latnets"] = 3
    content["prepare"]["quotes"]["vol_unit"] = "Percent"
    yaml.dump(content, Path("params.yaml"))
    wrong = volvae("check")
    assert wrong.exit_code == 2
    assert "train.latnets is not a key" in wrong.stderr
    assert "prepare.quotes.vol_unit" in wrong.stderr


def test_check_refuses_a_signing_key_that_could_not_sign(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a run trains for it: a key that is none, or an environment without the extra that signs."""
    Path("key.pem").write_text("no key")
    monkeypatch.setenv("VOLVAE_SIGNING_KEY", "key.pem")
    refused = volvae("check")
    assert refused.exit_code == 2
    assert "VOLVAE_SIGNING_KEY is 'key.pem', which is not the PEM file of a private key" in refused.stderr
    monkeypatch.setitem(sys.modules, "model_signing", None)
    lacking = volvae("check")
    assert lacking.exit_code == 2
    assert "VOLVAE_SIGNING_KEY is set, which needs model-signing: pip install 'volvae[sign]'" in lacking.stderr


def test_several_markets_have_laws_of_their_own_where_each_has_the_surfaces_for_it() -> None:
    alone, both, uneven = (training(counts, 40) for counts in ([3740], [1870, 1870], [3640, 100]))
    assert (alone["model"]["latents"], alone.get("conditions")) == (8, None)
    assert (both["model"]["latents"], both["conditions"]) == (39, ["market"])
    assert uneven == alone


_ROWS = [
    ("2026-03-02", 30, k, round(0.2 - 0.1 * k, 4), round(0.19 - 0.1 * k, 4), 0.5 + i, f"2026-03-02 1{i % 2}:00")
    for i, k in enumerate((-0.1, -0.05, 0.0, 0.05, 0.1, 0.15))
]


def plain_file(folder: Path) -> str:
    return write(folder / "q.csv", "date,days,log_moneyness,iv,close,size,at", _ROWS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--columns", "iv=VOL"), "q.csv has no column VOL; its columns"),
        (("--columns", "vol=iv"), "prepare.quotes.columns.vol is not a key; did you mean volume? Allowed: date"),
        (("--set", "vol_units=bp"), "prepare.quotes.vol_units is not a key; did you mean vol_unit?"),
        (("--set", "decimal_mark=;"), "prepare.quotes.decimal_mark: Input should be '.' or ','"),
        (("--set", "date_format=3"), "prepare.quotes.date_format: Input should be a valid string (got 3)"),
        (("--set", "min_points=0"), "prepare.quotes.min_points: Input should be greater than or equal to 1"),
        (("--set", "path=other.csv"), "path is not set here: the file is an argument"),
        (("--set", "columns={iv: close}"), "columns is not set here: --columns NAME=COLUMN"),
        (("--set", "columns.iv="), "columns.iv is not set here: --columns NAME=COLUMN names columns, NAME= none"),
        (("--columns", "vol="), "prepare.quotes.columns.vol is not a key; did you mean volume? Allowed: date"),
        (("--date", "2026-03-03"), "column date says when its rows were quoted; --date is for a file that does not"),
        (("--settings", "none.yaml"), "none.yaml"),
    ],
)
def test_an_option_that_would_do_nothing_is_named(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    result = volvae("inspect", plain_file(tmp_path), *options)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--columns", "weight=size"), {"weight": "size"}),
        (("--columns", "weight=SIZE", "--columns", "iv=Close"), {"weight": "size", "iv": "close"}),
        (("--columns", "bid=close,ask=size,iv=iv"), {"bid": "close", "ask": "size", "iv": "iv"}),
        (("--columns", "volume=size", "--set", "min_volume=1"), {"volume": "size"}),
        (("--columns", "snapshot=at", "--set", "min_points=1"), {"snapshot": "at"}),
        (("--columns", "date=at"), {"date": "at"}),
    ],
)
def test_every_column_that_is_named_is_read(tmp_path: Path, options: tuple[str, ...], expected: dict) -> None:
    (reading,) = inspected(plain_file(tmp_path), *options)["readings"]
    assert expected.items() <= reading["block"]["columns"].items()
    assert ("date" in reading["block"]["columns"]) == ("snapshot" not in expected)


def test_settings_that_are_named_say_how_a_file_is_read(tmp_path: Path) -> None:
    columns = "{date: date, days: days, log_moneyness: log_moneyness, iv: close}"
    settings = tmp_path / "own.yaml"
    settings.write_text(f"prepare:\n  quotes: {{path: other.csv, columns: {columns}, rate: 0.01}}\n")
    (reading,) = inspected(plain_file(tmp_path), "--settings", str(settings), "--set", "min_points=2")["readings"]
    assert reading["block"]["columns"]["iv"] == "close"
    assert (reading["block"]["rate"], reading["block"]["min_points"]) == (0.01, 2)


def test_a_column_that_is_read_wrongly_is_left_out_by_every_way_to_state_it(project: Path) -> None:
    """Parity contradicted forwards that only an editor of params.yaml could leave out."""
    table = chain(rate=0.05)
    table["forward"] = table["spot"]
    names = ["date", "days", "strike", "type", "price", "forward", "rate"]
    file = write(project / "q.csv", ",".join(names), list(zip(*(table[name] for name in names), strict=True)))
    assert "leave prepare.quotes.columns.forward out (--columns forward=)" in inspected(file)["refusals"][0]
    found = inspected(file, "--columns", "forward=")
    assert (found["columns"]["forward"], found["refusals"]) == ("not used", [])
    assert "forward" not in found["readings"][0]["block"]["columns"]
    assert volvae("init", file, "--columns", "forward=").exit_code == 0
    written = settings_of(Path(file), ReadingOptions(None, {}, {}))
    assert written.columns.forward is None
    others = ", ".join(f"{name}: {name}" for name in names if name != "forward")
    for forward, options in (("forward", ("--columns", "forward=")), ("null", ())):
        Path("own.yaml").write_text(f"prepare:\n  quotes: {{path: q.csv, columns: {{{others}, forward: {forward}}}}}\n")
        (reading,) = inspected(file, "--settings", "own.yaml", *options)["readings"]
        assert reading["block"]["columns"] == written.columns.model_dump(exclude_none=True)
        assert reading["forward"][1] == pytest.approx(102.5, abs=0.1)


def test_a_column_that_a_layout_makes_is_not_left_out(tmp_path: Path) -> None:
    file = option_file(tmp_path, "date,days,strike,spot,C_Price,P_Price", lambda days, strike, vol: (
        "2026-03-02", days, strike, 100.0, *prices(strike, days, vol)
    ))  # fmt: skip
    sides = "{call: {price: C_Price}, put: {price: P_Price}}"
    (tmp_path / "own.yaml").write_text(
        f"prepare:\n  quotes: {{path: chain.csv, call_put: {sides}, columns: {{date: date, days: days, "
        "strike: strike, spot: spot}}\n"
    )
    result = volvae("inspect", file, "--settings", str(tmp_path / "own.yaml"), "--columns", "price=")
    assert result.exit_code == 2
    why = "--columns price= leaves nothing out: the layout of the table makes this column"
    assert why in result.stderr
    assert inspected(file)["readings"]
    assert why in "".join(inspected(file, "--columns", "price=")["refusals"])
    wide = write(
        tmp_path / "wide.csv", "date,days,0.9,1.0,1.1", [("2026-03-02", days, 0.3, 0.2, 0.25) for days in (30, 90)]
    )
    assert why.replace("price", "iv") in "".join(inspected(wide, "--columns", "iv=")["refusals"])


def test_formats_of_several_columns_of_dates_are_taken(tmp_path: Path) -> None:
    rows = [("02/03/2026", "19Jun26", *row[2:4]) for row in _ROWS]
    file = write(tmp_path / "q.csv", "date,expiry,log_moneyness,iv", rows)
    (reading,) = inspected(file, "--set", "date_format={date: '%d/%m/%Y', expiry: '%d%b%y'}")["readings"]
    assert (reading["first_date"], reading["tenors_days"][0]) == ("2026-03-02", pytest.approx(109))


_OF_RATES = ["--vol-unit percent --set vol_kind=black", "--vol-unit bp --set vol_kind=normal"]


def swaptions(folder: Path, unit: float) -> str:
    """Normal vols of 85 basis points and more, beside forwards of 3 %, as desks of rates quote them."""
    rows = [
        ("2026-03-02", tenor, 0.032, round(0.032 + gap, 4), unit * (85 + abs(gap) * 1e3))
        for tenor in ("3M", "1Y")
        for gap in (-0.01, -0.005, 0.0, 0.005, 0.01)
    ]
    return write(folder / "q.csv", "date,tenor,forward,strike,vol", rows)


def test_vols_of_rates_may_be_normal(project: Path) -> None:
    """85 beside a forward of 3 % is 85 % or 85 basis points a year, of which only the user knows which it is."""
    file = swaptions(project, 1.0)
    found = inspected(file)
    assert found["choices"] == _OF_RATES
    assert volvae("init", file).exit_code == 2
    (black,) = inspected(file, "--vol-unit", "percent")["readings"]
    (normal,) = inspected(file, *shlex.split(found["choices"][1]))["readings"]
    assert black["vols_percent"][1] == pytest.approx(90, rel=0.1)
    assert normal["vols_percent"][1] == pytest.approx(100 * 0.0085 / 0.032, rel=0.1)
    assert inspected(file, "--set", "vol_kind=normal")["readings"][0]["block"]["vol_unit"] == "bp"


def test_vols_that_only_normal_ones_can_be_are_read_so(tmp_path: Path) -> None:
    (reading,) = inspected(swaptions(tmp_path, 1e-4))["readings"]
    assert reading["block"]["vol_kind"] == "normal"
    assert "vol_unit" not in reading["block"]


def test_vols_that_excel_shows_in_percent_are_decimal(tmp_path: Path) -> None:
    """1.2 is 120 % in a cell of the format 0.0%, and 120 or 1.2 % in one without."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["date", "tenor", "spot", "strike", "iv"])
    for row, (tenor, ratio) in enumerate(product(("3M", "1Y"), (0.8, 0.9, 1.0, 1.1, 1.2)), start=2):
        book.active.append(["2026-03-02", tenor, 100.0, 100.0 * ratio, 1.2 + 0.1 * abs(ratio - 1.0)])
        book.active[f"E{row}"].number_format = "0.0%"
    file = str(tmp_path / "q.xlsx")
    book.save(file)
    (reading,) = inspected(file)["readings"]
    assert reading["vols_percent"][0] == pytest.approx(120.0)
    refused = volvae("complete", file, "--vol-unit", "percent", "--bundle", str(DEMO), "-o", str(tmp_path / "s.csv"))
    assert refused.exit_code == 2
    assert (
        "column iv: Excel shows 1.21 as 121 %, so that it is decimal; leave prepare.quotes.vol_unit" in refused.stderr
    )
    for row in range(2, 12):
        book.active[f"E{row}"].number_format = "0.0"
    book.save(file)
    assert len(inspected(file)["readings"]) == 2


_WHEN = {"expiry": ("2026-06-02", "2027-03-02"), "tenor_years": (0.25, 1.0), "days": (91, 365)}


@pytest.mark.parametrize("column", sorted(_WHEN))
def test_swaptions_by_dates_or_years_are_known_by_their_forwards(tmp_path: Path, column: str) -> None:
    """A coin of three cents would look the same by strikes of all kinds; 12 is no normal vol beside 3 %."""
    whens = list(zip(_WHEN[column], (0.0321, 0.03474), strict=True))
    gaps = (-0.01, -0.005, 0.0, 0.005, 0.01)
    header = f"date,{column},forward,strike,vol"
    relative = [("2026-03-02", w, f, round(f + gap, 6), 85 + 100 * abs(gap)) for w, f in whens for gap in gaps]
    found = inspected(write(tmp_path / "r.csv", header, relative))
    assert found["choices"] == _OF_RATES
    absolute = [("2026-03-02", w, f, round(0.033 + gap, 6), 85 + 100 * abs(gap)) for w, f in whens for gap in gaps]
    assert inspected(write(tmp_path / "a.csv", header, absolute))["choices"] == found["choices"]
    file = write(tmp_path / "b.csv", header, [(*row[:4], row[4] - 73) for row in absolute])
    (reading,) = inspected(file)["readings"]
    said = "vols are Black ones, of a price; --set vol_kind=normal reads normal ones"
    assert any(said in line for line in reading["assumed"])
    (reading,) = inspected(file, "--set", "vol_kind=black")["readings"]
    assert not any(said in line for line in reading["assumed"])


@pytest.mark.parametrize(("size", "unit"), [(1.0, "bp"), (100.0, "percent"), (10_000.0, "decimal")])
def test_swaptions_on_round_forwards_of_any_unit_may_have_normal_vols(tmp_path: Path, size: float, unit: str) -> None:
    """Strikes at the same offsets from all forwards are relative; 95 was read as 95 % without a word."""
    forwards = {"3M": 0.0335, "6M": 0.034, "1Y": 0.0345}
    gaps = (-0.01, -0.005, -0.0025, 0.0, 0.0025, 0.005, 0.01)
    rows = [
        ("2026-03-02", tenor, f"{size * forward:.6g}", f"{size * (forward + gap):.6g}", 95 + 1000 * abs(gap))
        for tenor, forward in forwards.items()
        for gap in gaps
    ]
    file = write(tmp_path / "q.csv", "date,tenor,forward,strike,vol", rows)
    chosen = [inspected(file, *shlex.split(choice))["readings"] for choice in inspected(file)["choices"]]
    ((black,), (normal,)) = chosen
    assert black["vols_percent"][1] == pytest.approx(100, rel=0.06)
    assert normal["vols_percent"][1] == pytest.approx(100 * 0.0095 / 0.034, rel=0.1)
    file = write(tmp_path / "n.csv", "date,tenor,forward,strike,Normal Vol (bp)", rows)
    (named,) = inspected(file)["readings"]
    assert named["block"].get("vol_unit", "decimal") == unit
    assert named["vols_percent"] == normal["vols_percent"]


def test_strikes_in_percent_of_caps_are_no_deltas(tmp_path: Path) -> None:
    """They were read as options of deltas of 1 to 5 %, with vols of 95 %."""
    rows = [("2026-03-02", tenor, *(95 + 2 * i for i in range(5))) for tenor in ("1Y", "2Y", "5Y")]
    for names in ("1.00%,2.00%,3.00%,4.00%,5.00%", "1.00,2.00,3.00,4.00,4.50"):  # nor a moneyness from 1 on
        assert not inspected(write(tmp_path / "q.csv", f"Date,Maturity,{names}", rows))["readings"]


def test_normal_vols_at_strikes_in_percent_are_said_to_be_taken_for_black(tmp_path: Path) -> None:
    """A share of three dollars may have vols of 95 %."""
    rows = [
        ("2026-03-02", tenor, forward, strike, 95 + strike)
        for tenor, forward in (("1Y", 3.31), ("2Y", 3.45))
        for strike in (1, 2, 3, 4, 5)
    ]
    (reading,) = inspected(write(tmp_path / "q.csv", "date,tenor,forward,strike,vol", rows))["readings"]
    assert reading["assumed"][0].startswith("vols are Black ones, of a price; --set vol_kind=normal reads normal ones")


def test_columns_from_80_to_120_may_be_strikes_or_percent_of_the_spot(tmp_path: Path) -> None:
    """Beside a spot of 103 both are possible; beside one of 4,700 they are no strikes."""
    wide = [("3M", 24, 22, 20, 19, 19.5), ("1Y", 23, 21.5, 20, 19.4, 19.6)]
    header, names = "Date,Tenor,Spot,80,90,100,110,120", ("80", "90", "100", "110", "120")
    moneyness = {"coordinate": "moneyness", "columns": {name: int(name) / 100 for name in names}}
    file = write(tmp_path / "q.csv", header, [("2026-03-02", row[0], 103.4, *row[1:]) for row in wide])
    found = inspected(file)
    assert [reading["block"]["wide"]["coordinate"] for reading in found["readings"]] == ["strike", "moneyness"]
    chosen = [inspected(file, *shlex.split(choice))["readings"] for choice in found["choices"]]
    assert [[one["block"]["wide"]["coordinate"] for one in own] for own in chosen] == [["strike"], ["moneyness"]]
    file = write(tmp_path / "q.csv", header, [("2026-03-02", row[0], 4700, *row[1:]) for row in wide])
    (reading,) = inspected(file)["readings"]
    assert reading["block"]["wide"] == moneyness


def test_forwards_that_are_called_the_underlying_are_read(tmp_path: Path) -> None:
    """As exchanges of coins name them; the time of expiry has its own name there."""
    expiries = {"2026-03-27T08:00Z": 62_400, "2026-06-26T08:00Z": 64_000}
    rows = [
        ("2026-03-02T08:00Z", expiry, strike, 60 + 1e-4 * abs(strike - forward), forward)
        for expiry, forward in expiries.items()
        for strike in range(50_000, 76_000, 5_000)
    ]
    file = write(tmp_path / "q.csv", "timestamp,expiration_timestamp,strike,mark_iv,underlying_price", rows)
    (reading,) = inspected(file)["readings"]
    assert reading["block"]["columns"]["forward"] == "underlying_price"
    assert reading["forward"] == pytest.approx([62_400, 64_000])


def test_numbers_that_stand_for_none_hide_no_column(tmp_path: Path) -> None:
    """As OptionMetrics writes -99.99 and brokers -1."""
    rows = [("2026-03-02", 182, k, 100, 0.2 if k % 5 else -99.99, -1 if k == 91 else 0.1, 0.2) for k in range(86, 116)]
    file = write(tmp_path / "q.csv", "date,days,strike,spot,impl_volatility", [row[:5] for row in rows])
    (reading,) = inspected(file)["readings"]
    assert reading["block"]["columns"]["iv"] == "impl_volatility"
    assert reading["rejected"] == {"vol_not_positive": 6}
    file = write(tmp_path / "b.csv", "date,days,strike,forward,bid_iv,ask_iv", [(*row[:4], *row[5:]) for row in rows])
    (reading,) = inspected(file)["readings"]
    assert reading["rejected"] == {"missing_bid": 1}


def test_an_options_own_close_is_no_spot(tmp_path: Path) -> None:
    """CBOE's has 0 for options that were not traded."""
    calls = {strike: 12.0 - 0.6 * (strike - 100) + 0.015 * (strike - 100) ** 2 for strike in range(92, 110, 2)}
    rows = [
        ("2026-03-02", "2026-09-01", side, strike, round(price - 0.1, 4), round(price + 0.1, 4), 0.0)
        for strike, call in calls.items()
        for side, price in (("C", call), ("P", call - 100 + strike))
    ]
    header = "quote_date,expiration,option_type,strike,bid,ask,close"
    (reading,) = inspected(write(tmp_path / "q.csv", header, rows))["readings"]
    assert "spot" not in reading["block"]["columns"]
    rows = [(*row[:6], 100.0) for row in rows]
    (reading,) = inspected(write(tmp_path / "q.csv", header, rows))["readings"]
    assert reading["block"]["columns"]["spot"] == "close"


def test_a_table_with_cells_as_excel_merges_them_says_what_is_empty(tmp_path: Path) -> None:
    whole = [("2026-03-02", days, strike, 100, 0.2) for days in (91, 182) for strike in (90, 95, 100, 105, 110)]
    rows = [row if row[2] == 90 else ("", "", *row[2:]) for row in whole]
    text = volvae("inspect", write(tmp_path / "q.csv", "date,days,strike,spot,iv", rows)).stdout
    assert "80% of the rows are rejected: 8 missing_value; most cells of date, days are empty: each row needs" in text


def test_moneyness_that_has_several_meanings_is_said(tmp_path: Path) -> None:
    rows = [("2026-03-02", days, k, 0.2) for days in (91, 365) for k in (-0.2, -0.1, 0.0, 0.1, 0.2)]
    (reading,) = inspected(write(tmp_path / "q.csv", "date,days,moneyness,iv", rows))["readings"]
    assert reading["assumed"][0].startswith("moneyness is ln(strike / forward); any other moneyness must be turned")
    for name, says_nothing in (("log_moneyness", True), ("k", True), ("ln(K/F)", False)):
        file = write(tmp_path / "q.csv", f"date,days,{name},iv", rows)
        (reading,) = inspected(file, "--set", "days_per_year=365")["readings"]
        line = f"{name} is ln(strike / forward); any other moneyness must be turned into it in the file"
        assert reading["assumed"] == [line] * says_nothing


def test_deltas_of_one_side_are_said_to_be_of_calls(tmp_path: Path) -> None:
    rows = [("2026-03-02", tenor, delta, 0.1) for tenor in ("3M", "1Y") for delta in (0.1, 0.25, 0.4)]
    (reading,) = inspected(write(tmp_path / "q.csv", "date,tenor,delta,iv", rows))["readings"]
    assert reading["assumed"] == [
        "deltas are forward ones of calls, without premium; --set delta_kind=spot reads those of the spot",
        "deltas are of calls, although none is above 0.5; those of puts need a column of types, or signs",
    ]


def test_large_vols_by_delta_may_be_percent_of_a_pegged_currency(tmp_path: Path) -> None:
    """By strikes their distances show it; by deltas nothing does."""
    deltas = {0.1: 0.92, 0.25: 0.9, 0.5: 0.88, 0.75: 0.9, 0.9: 0.92}
    rows = [("2026-03-02", tenor, *quote) for tenor in ("3M", "1Y") for quote in deltas.items()]
    file = write(tmp_path / "q.csv", "date,tenor,call_delta,iv", rows)
    (reading,) = inspected(file, "--set", "delta_kind=forward")["readings"]
    (line,) = reading["assumed"]
    assert line.startswith(
        "a vol of 0.9 is 90 %; --set vol_unit=percent --set 'expected_vol={low: 0.0001, high: 2}' takes"
    )
    options = line[line.index("--set") : line.index(" takes it as 0.9 %")]
    (reading,) = inspected(file, *shlex.split(options))["readings"]
    assert reading["vols_percent"][1] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("header", "tenors", "level", "vol"),
    [
        ("date,expiry,spot,strike,vol", ("2026-06-02", "2027-03-02"), 0.1234, 80.0),  # a coin, as exchanges list it
        ("date,expiry,forward,strike,vol", ("2026-06-02", "2027-03-02"), 0.1234, 80.0),
        ("date,tenor,spot,strike,vol", ("3M", "1Y"), 0.0067, 10.0),  # yen in dollars
        ("date,tenor,forward,strike,vol", ("3M", "1Y"), 0.0067, 10.0),
    ],
)
def test_vols_of_a_cheap_coin_or_currency_are_black(
    tmp_path: Path, header: str, tenors: tuple[str, str], level: float, vol: float
) -> None:
    rows = [
        ("2026-03-02", tenor, level, round(level * ratio, 6), vol + 10 * abs(ratio - 1))
        for tenor in tenors
        for ratio in (0.9, 0.95, 1.0, 1.05, 1.1)
    ]
    (reading,) = inspected(write(tmp_path / "q.csv", header, rows))["readings"]
    assert reading["block"]["vol_unit"] == "percent"
    assert "vol_kind" not in reading["block"]


@pytest.mark.parametrize("vol", [5.0, 9.0, 11.0])
def test_vols_of_a_currency_by_relative_strikes_are_black(tmp_path: Path, vol: float) -> None:
    """At 0.0123 strikes as of swaptions left two readings; no rate of 1.2 % has normal vols of 11 basis points."""
    rows = [
        ("2026-03-02", tenor, forward, round(forward + gap, 6), vol + 100 * abs(gap))
        for tenor, forward in (("3M", 0.0123), ("1Y", 0.0125))
        for gap in (-0.0025, -0.00125, 0.0, 0.00125, 0.0025)
    ]
    (reading,) = inspected(write(tmp_path / "q.csv", "date,tenor,forward,strike,vol", rows))["readings"]
    assert "vol_kind" not in reading["block"]


@pytest.mark.parametrize("name", ["forward", "spot"])
def test_a_file_whose_underlying_is_zero_ends_in_words(tmp_path: Path, name: str) -> None:
    rows = [("2026-03-02", "3M", 0.0, strike, 80.0) for strike in (0.01, 0.02, 0.03)]
    result = volvae("inspect", write(tmp_path / "q.csv", f"date,tenor,{name},strike,vol", rows))
    assert f"column {name} is named as {name}, but holds 0 to 0" in result.stdout


def test_conventions_of_butterflies_are_refused_on_a_file_without_any(project: Path) -> None:
    conventions = "fx={delta: forward, premium_adjusted: false, atm_strike: delta_neutral, strangle: smile}"
    why = "--set fx=... is not used: no columns are named as at-the-money vols, risk reversals and butterflies"
    assert why in volvae("inspect", plain_file(project), "--set", conventions).stdout
    refused = volvae("init", plain_file(project), "--set", conventions)
    assert (refused.exit_code, why in refused.stderr) == (2, True)


def test_a_column_that_is_named_as_two_things_is_refused(tmp_path: Path) -> None:
    refused = volvae("inspect", plain_file(tmp_path), "--columns", "iv=close,price=close")
    assert refused.exit_code == 2
    assert "--columns names column close as iv and as price; it is one of them" in refused.stderr


@pytest.mark.slow
def test_a_rate_that_nothing_gives_is_said_where_forwards_need_it(project: Path) -> None:
    """Calls alone have no parity; with puts it gives the forward, and with a rate that is stated nothing is assumed."""
    header = "date,expiry,type,strike,spot,price"
    prices = {strike: 10.0 - 0.6 * (strike - 100) + 0.01 * (strike - 100) ** 2 for strike in (92, 96, 100, 104, 108)}
    calls = [("2026-03-02", "2026-09-01", "C", strike, 100, price) for strike, price in prices.items()]
    puts = [(*row[:2], "P", strike, 100, prices[strike] - 102 + strike) for row in calls for strike in (row[3],)]
    alone, both = write(project / "c.csv", header, calls), write(project / "cp.csv", header, calls + puts)

    uses = "forwards are made of spots and prices are discounted with rate 0"
    note = f"{uses}, as no column is read for it; --set rate=... changes it"
    options = ("--bundle", str(DEMO), "-o", str(project / "s.csv"))
    assert note in volvae("complete", alone, *options).stdout
    assert (
        "made of spots with dividend_yield 0, as no column"
        in volvae("complete", alone, *options, "--set", "rate=0.04").stdout
    )
    assert json.loads(volvae("complete", both, *options, "--json").stdout)["assumed_rates"] == []
    assert inspected(alone)["readings"][-1]["assumed"][0] == note
    (european,) = inspected(both)["readings"][-1]["assumed"]
    assert european.startswith("prices are read as of european options, which nothing says; ")
    assert inspected(both, "--set", "exercise=european")["readings"][-1]["assumed"] == []
    assert json.loads(volvae("complete", both, *options, "--json").stdout)["assumed_european"] is True
    assert european in volvae("complete", both, *options).stdout


@pytest.mark.parametrize(
    ("name", "cell", "message"),
    [
        ("strike", "$100", "column strike holds '$100' in row 1, but must hold numbers"),
        ("iv", "24 vol", "column iv holds '24 vol' in row 1, but must hold numbers"),
        ("expiry", "third Friday", "column expiry holds 'third Friday' in row 1, which is not a date; allowed"),
    ],
)
def test_the_cell_that_keeps_a_column_from_being_read_is_named(
    tmp_path: Path, name: str, cell: str, message: str
) -> None:
    row = {"date": "2026-03-02", "expiry": "2026-06-19", "strike": 100, "forward": 101, "iv": 0.24} | {name: cell}
    file = write(tmp_path / "q.csv", ",".join(row), [tuple(row.values())])
    assert message in volvae("inspect", file).stdout


def test_a_file_without_any_usable_row_says_why(tmp_path: Path) -> None:
    """Calls above and puts below the money make no pair, from which a forward could follow."""
    rows = [("2026-03-02", "2026-06-19", "CP"[k < 100], k, 5 - abs(k - 100) / 3) for k in (92, 96, 104, 108)]
    text = volvae("inspect", write(tmp_path / "q.csv", "date,expiry,type,strike,price", rows)).stdout
    assert "no row is a usable quote: 4 no_forward" in text


def test_a_forward_beside_moneyness_is_read(tmp_path: Path) -> None:
    """Without it the forward was the spot; of a column called moneyness nothing says which way it is."""
    rows = [("2026-03-02", 182, 100, 103, moneyness, 0.2) for moneyness in (0.9, 0.95, 1.0, 1.05, 1.1)]
    (reading,) = inspected(write(tmp_path / "q.csv", "date,days,spot,forward,moneyness,iv", rows))["readings"]
    assert reading["block"]["columns"]["forward"] == "forward"
    days = "days is calendar days; --set days_per_year=252 reads trading days"
    assert reading["assumed"] == [
        "moneyness is strike over spot; that of spot over strike must be turned round in the file",
        days,
    ]
    (reading,) = inspected(write(tmp_path / "q.csv", "date,days,spot,fwd,K over S,iv", rows))["readings"]
    assert reading["assumed"] == [days]


def test_dividends_in_cash_are_no_yield(tmp_path: Path) -> None:
    rows = [("2026-03-02", 182, 100, strike, 0.2, 0.05) for strike in (90, 95, 100, 105, 110)]
    (reading,) = inspected(write(tmp_path / "q.csv", "date,days,spot,strike,iv,dividend", rows))["readings"]
    assert "dividend_yield" not in reading["block"]["columns"]
    for name, line in zip(("rate", "dividend_yield"), reading["assumed"], strict=False):
        assert line.startswith(f"forwards are made of spots with {name} 0, as no column is read for it")


def test_strikes_are_taken_before_a_vendors_deltas(tmp_path: Path) -> None:
    """Deltas beside strikes are greeks, of the spot or of the forward."""
    rows = [("2026-03-02", 182, strike, 100, 0.2, delta) for strike, delta in ((90, 0.8), (100, 0.53), (110, 0.27))]
    (reading,) = inspected(write(tmp_path / "q.csv", "date,days,strike,forward,iv,delta", rows))["readings"]
    assert reading["block"]["columns"]["strike"] == "strike"


def test_offsets_in_percent_are_no_log_moneyness(tmp_path: Path) -> None:
    """As tables of swaptions have them; without the sign they are said to be logarithms."""
    rows = [("2026-03-02", tenor, 26, 22, 20, 19, 19.5) for tenor in ("3M", "1Y")]
    names = "-0.50{0},-0.25{0},0.00{0},0.25{0},0.50{0}"
    assert not inspected(write(tmp_path / "q.csv", f"Date,Expiry,{names.format('%')}", rows))["readings"]
    (reading,) = inspected(write(tmp_path / "q.csv", f"Date,Expiry,{names.format('')}", rows))["readings"]
    (line,) = (line for line in reading["assumed"] if "ln(strike / forward)" in line)
    assert line.startswith("columns are named by ln(strike / forward)")


def test_whole_numbers_of_a_maturity_are_said_to_be_years(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [("2026-03-02", maturity, k, 0.2) for maturity in (1, 2, 3, 5) for k in (-0.1, 0.0, 0.1)]
    file, line = write(tmp_path / "q.csv", "date,maturity,ln(K/F),iv", rows), "maturity is years; months or days "
    (reading,) = inspected(file)["readings"]
    assert reading["assumed"] == [f"{line}must be divided by 12 or 365 in the file"]
    assert f"assumed: {line}" in volvae("init", file).stdout


@pytest.mark.parametrize(
    ("name", "maturities", "expected"),
    [
        ("ttm", (1.33, 8.33), ["ttm is years; months or days must be divided by 12 or 365 in the file"]),
        ("maturity", (0.5, 1, 3), ["maturity is years; months or days must be divided by 12 or 365 in the file"]),
        ("years to expiry", (0.5, 1, 3), []),
        ("dte", (21, 42, 63), ["dte is calendar days; --set days_per_year=252 reads trading days"]),
    ],
)
def test_the_unit_of_a_time_to_expiry_is_said_where_its_name_does_not(
    tmp_path: Path, name: str, maturities: tuple[float, ...], expected: list[str]
) -> None:
    """Days of 1.33 and 8.33 were 485 days and more, without a word."""
    rows = [("2026-03-02", maturity, k, 0.2) for maturity in maturities for k in (-0.1, 0.0, 0.1)]
    (reading,) = inspected(write(tmp_path / "q.csv", f"date,{name},ln(K/F),iv", rows))["readings"]
    assert reading["assumed"] == expected


def test_a_column_of_rates_is_said_to_be_decimal_where_nothing_shows_it(tmp_path: Path) -> None:
    """0.05 is 5 %, or 0.05 % as in 2021; forwards of spots follow from it."""
    rows = [("2026-03-02", 365, strike, 100, 0.05, 0.2) for strike in (90, 100, 110)]
    file = write(tmp_path / "q.csv", "date,days,strike,spot,rate,iv", rows)
    (reading,) = inspected(file)["readings"]
    assert "a rate of 0.05 is 5 %; --set rate_unit=percent takes it as 0.05 %" in reading["assumed"]
    (reading,) = inspected(file, "--set", "rate_unit=percent")["readings"]
    assert reading["forward"] == pytest.approx([100 * np.exp(0.0005)] * 2)
    assert not [line for line in reading["assumed"] if line.startswith("a rate")]


def test_columns_from_10_to_90_are_deltas_or_strikes(tmp_path: Path) -> None:
    rows = [(tenor, 52, 24, 22, 20, 22, 24) for tenor in ("3M", "1Y")]
    found = inspected(write(tmp_path / "q.csv", "Tenor,Spot,10,25,50,75,90", rows))
    assert [reading["block"]["wide"]["coordinate"] for reading in found["readings"]] == ["strike", "call_delta"]
    assert '--set \'wide={coordinate: call_delta, columns: {"10": 0.1, ' in found["choices"][1]
    (reading,) = inspected(write(tmp_path / "q.csv", "Tenor,10,25,50,75,90", [(row[0], *row[2:]) for row in rows]))[
        "readings"
    ]
    assert reading["block"]["wide"]["columns"]["90"] == 0.9
    assert reading["assumed"][0].startswith("deltas are forward ones of calls, without premium")


def test_vols_of_an_index_may_be_points(tmp_path: Path) -> None:
    """940 is 9.4 % in basis points, or 940 points of 4,700 a year."""
    rows = [
        ("2026-03-02", days, k, 4700, 940 + abs(k - 4700) / 10) for days in (91, 365) for k in range(4000, 5500, 100)
    ]
    file = write(tmp_path / "q.csv", "date,days,strike,forward,iv", rows)
    chosen = [inspected(file, *shlex.split(choice))["readings"] for choice in inspected(file)["choices"]]
    assert [own[0]["vols_percent"][1] for own in chosen] == [pytest.approx(9.8, abs=0.3), pytest.approx(20.1, abs=0.3)]


def test_a_unit_that_would_spoil_another_column_is_not_guessed(tmp_path: Path) -> None:
    rows = [("2026-03-02", 365, strike, 100, 0.05, 1.3, 0.2) for strike in (90, 100, 110)]
    found = inspected(write(tmp_path / "q.csv", "date,days,strike,spot,rate,dividend_yield,iv", rows))
    assert not found["readings"]
    assert "column dividend_yield with a median of 1.3 looks like percent, and column rate with" in found["refusals"][0]
    rows = [(*row[:4], 5, *row[5:]) for row in rows]
    (reading,) = inspected(write(tmp_path / "q.csv", "date,days,strike,spot,rate,dividend_yield,iv", rows))["readings"]
    assert reading["forward"] == pytest.approx([100 * np.exp(0.037)] * 2)
    assert reading["assumed"][0] == "a rate of 5 is 5 %; --set rate_unit=percent says so"


def test_columns_of_kinds_that_are_not_read_stand_beside_quotes(tmp_path: Path) -> None:
    """Times, bytes and lists of a Parquet file, which nobody names."""
    rows = [("2026-03-02", days, strike, 100.0, 0.2) for days in (30, 91) for strike in (90.0, 100.0, 110.0)]
    quotes = dict(zip(("date", "days", "strike", "forward", "iv"), map(list, zip(*rows, strict=True)), strict=True))
    others = {"note": pa.array([1] * 6, pa.time64("us")), "raw": [b"\xff"] * 6, "greeks": [[0.5]] * 6}
    pq.write_table(pa.table(quotes | others), tmp_path / "q.parquet")
    (reading,) = inspected(str(tmp_path / "q.parquet"))["readings"]
    assert reading["used"] == 6


def test_tickers_of_few_rows_are_markets(tmp_path: Path) -> None:
    """They were one surface, or refused for want of a column that tells them apart; names of options are no markets."""
    tickers = [f"T{i:02}" for i in range(40)]
    rows = [(t, "2026-03-02", 46, k, 0.2 + 0.01 * i) for i, t in enumerate(tickers) for k in (-0.1, 0.0, 0.05, 0.1)]
    (reading,) = inspected(write(tmp_path / "q.csv", "ticker,date,days,log_moneyness,iv", rows))["readings"]
    assert reading["markets"] == tickers
    strikes = [(t, "2026-03-02", 46, 100 * np.exp(k), 100, vol) for t, _, _, k, vol in rows]
    (reading,) = inspected(write(tmp_path / "q.csv", "ticker,date,days,strike,forward,iv", strikes))["readings"]
    assert reading["markets"] == tickers
    options = [(f"{row[0]} {place}", *row[1:4], 0.2) for place, row in enumerate(rows[:4])]
    (reading,) = inspected(write(tmp_path / "q.csv", "ticker,date,days,log_moneyness,iv", options))["readings"]
    assert reading["markets"] == []


def test_a_reading_that_is_left_out_for_its_arbitrage_is_said(tmp_path: Path) -> None:
    """Prices of which one in the middle is a tenth too high stood beside vols, and nothing was said of them."""
    tenor, strikes = 182 / 365, np.arange(80, 125, 5)
    prices = [black_call(100, k, 0.2 * np.sqrt(tenor)) * (1.1 if k == 100 else 1.0) for k in strikes]
    rows = [("2026-03-02", 182, k, 100, "C", f"{price:.4f}", 0.2) for k, price in zip(strikes, prices, strict=True)]
    file = write(tmp_path / "q.csv", "date,days,strike,forward,type,price,iv", rows)
    found = inspected(file)
    assert [reading["block"]["columns"].get("iv") for reading in found["readings"]] == ["iv"]
    (line,) = [why for why in found["refusals"] if why.startswith("butterflies in 100% of the smiles of another read")]
    options = shlex.split(line.partition("; ")[2].removesuffix(" reads it"))
    (reading,) = inspected(file, *options)["readings"]
    assert reading["block"]["columns"]["price"] == "price"


def test_percent_signs_of_deltas_are_read_and_those_of_moneyness_have_a_remedy(tmp_path: Path) -> None:
    """The message named units of vols and rates only, which change nothing of either."""
    rows = [("2026-03-02", days, f"{delta}%", 0.2) for days in (91, 365) for delta in (10, 25, 50, 75, 90)]
    (reading,) = inspected(write(tmp_path / "q.csv", "date,days,delta,iv", rows))["readings"]
    assert reading["block"]["delta_unit"] == "percent"
    rows = [("2026-03-02", days, 50, f"{share}%", 0.2) for days in (91, 365) for share in (80, 90, 100, 110)]
    found = inspected(write(tmp_path / "q.csv", "date,days,spot,moneyness,iv", rows))
    assert any("elsewhere write 0.25 for 25% in the file" in why for why in found["refusals"])
