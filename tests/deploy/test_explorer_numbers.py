"""The mathematics of the explorer's page, run by Node, beside the runtime's and scipy's."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from pipeline.cli import complete_quotes, file_readings
from pipeline.cli.quotes_options import ReadingOptions
from pipeline.sources.one_surface import Choice
from tools import column_names
from vae.surface import arbitrage
from vae.surface.grid import Grid
from vae.surface.spline import Curve
from vae.surface.surfaces import Surfaces

ROOT = Path(__file__).parents[2]
TENORS = np.array([0.1, 0.5, 1.0])
NODES = {
    "log_moneyness": np.linspace(-0.6, 0.5, 12),
    "sqrt_time": np.linspace(-0.7, 0.6, 9),
    "delta": np.linspace(0.05, 0.95, 9),
}
GRIDS = [pytest.param(Grid(TENORS, nodes, name), id=name) for name, nodes in NODES.items()]


def called(node: str, module: str, program: str, value: object) -> Any:
    """The value of a program in JavaScript, in which `m` is a module of the page."""
    request = {"module": str(ROOT / "deploy/explorer" / module), "program": program, "value": value}
    command = [node, "--experimental-default-type=module", str(ROOT / "tests/javascript/call.mjs")]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout, parse_constant=float)


def surface(grid: Grid) -> np.ndarray:
    """Smooth vols of a skewed market, [tenor, node]."""
    k = grid.log_moneyness if grid.convention != "delta" else -0.4 * (grid.nodes - 0.5) * np.sqrt(TENORS)[:, None]
    smile = 0.2 - 0.12 * k / np.sqrt(TENORS)[:, None] ** 0.5 + 0.25 * k**2
    return smile + 0.01 * np.sqrt(TENORS)[:, None]


def vols(grid: Grid, k: float | np.ndarray, tenor: float) -> np.ndarray:
    return Surfaces(surface(grid)[None], grid).at(log_moneyness=k, tenor=tenor)[0]


def values_of(node: str, grid: Grid, tenor: float, points: np.ndarray) -> dict[str, np.ndarray]:
    """Each quantity and axis at points of a smile, as the page has them."""
    text = "m.everything(value.grid, value.iv, value.tenor, value.k)"
    request = {"grid": grid.to_dict(), "iv": surface(grid).ravel().tolist(), "tenor": tenor, "k": points.tolist()}
    found = called(node, "../../tests/javascript/everything.mjs", text, request)
    return {name: np.array(value, float) for name, value in found.items()}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("tenor", [0.1, 0.3])
def test_quantities_and_axes_are_those_of_the_library(node: str, grid: Grid, tenor: float) -> None:
    points = np.linspace(-0.09, 0.08, 7)
    found = values_of(node, grid, tenor, points)
    expected = vols(grid, points, tenor)
    w = expected**2 * tenor
    np.testing.assert_allclose(found["vol"], 100 * expected, rtol=1e-9)
    np.testing.assert_allclose(found["variance"], w, rtol=1e-9)
    d1 = -points / np.sqrt(w) + np.sqrt(w) / 2
    np.testing.assert_allclose(found["delta"], stats.norm.cdf(d1), rtol=1e-9)
    np.testing.assert_allclose(found["strike"], 250.0 * np.exp(points), rtol=1e-12)
    np.testing.assert_allclose(found["scaled"], points / np.sqrt(tenor), rtol=1e-12)
    np.testing.assert_allclose(found["price"], arbitrage.call_price(w, points), atol=1e-13)


@pytest.mark.parametrize("grid", GRIDS)
def test_rough_surfaces_are_read_as_the_library_reads_them(node: str, grid: Grid) -> None:
    """All along a smile, of which the shorter and the longer one enclose a part."""
    rough = surface(grid) * np.sqrt(np.array([1.0, 0.21, 0.4]))[:, None]
    k = np.linspace(-0.6, 0.5, 111)
    for tenor in (0.11, 0.3, 0.49):
        request = {"grid": grid.to_dict(), "iv": rough.ravel().tolist(), "tenor": tenor, "k": k.tolist()}
        found = called(node, "grid.js", "m.smileAt(value.grid, value.iv, value.tenor, value.k)", request)
        np.testing.assert_allclose(np.array(found, float), Surfaces(rough[None], grid).at(k, tenor)[0], rtol=1e-9)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_density_is_the_second_derivative_of_calls(node: str, grid: Grid) -> None:
    """That of ln(S/F) is exp(k) times the second derivative by strike (Breeden, Litzenberger 1978)."""
    points, step = np.linspace(-0.1, 0.1, 5), 1e-4
    found = values_of(node, grid, 0.5, points)["density"]

    def call(strike: np.ndarray) -> np.ndarray:
        k = np.log(strike)
        return arbitrage.call_price(vols(grid, k, 0.5) ** 2 * 0.5, k)

    strikes = np.exp(points)
    second = (call(strikes + step) - 2 * call(strikes) + call(strikes - step)) / step**2
    np.testing.assert_allclose(found, strikes * second, rtol=2e-4)


def test_the_density_of_flat_vols_is_normal(node: str) -> None:
    program = "value.k.map((k) => m.density([value.w, 0, 0], k))"
    k, w = np.linspace(-1.5, 1.5, 301), 0.04
    found = np.array(called(node, "black.js", program, {"k": k.tolist(), "w": w}))
    np.testing.assert_allclose(found, stats.norm(-w / 2, np.sqrt(w)).pdf(k), rtol=1e-10)
    assert integrate.simpson(found, x=k) == pytest.approx(1.0, abs=1e-9)


def test_durrleman_is_that_of_the_library(node: str) -> None:
    smiles = np.random.default_rng(3).uniform([0.01, -0.5, -1.0, -0.5], [0.2, 0.5, 1.0, 0.5], (20, 4))
    found = called(node, "black.js", "value.map(([w, a, b, k]) => m.durrleman([w, a, b], k))", smiles.tolist())
    np.testing.assert_allclose(found, arbitrage.durrleman(Curve(*smiles.T[:3]), smiles.T[3]), rtol=1e-12)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("tenor", [0.3, 0.5])
def test_risk_reversals_and_butterflies_are_read_at_their_deltas(node: str, grid: Grid, tenor: float) -> None:
    found = values_of(node, grid, tenor, np.zeros(1))
    atm = vols(grid, 0.0, tenor).item()

    def at_delta(delta: float) -> float:
        def excess(k: float) -> float:
            deviation = vols(grid, k, tenor).item() * np.sqrt(tenor)
            return stats.norm.cdf(-k / deviation + deviation / 2) - delta

        return vols(grid, optimize.brentq(excess, -0.15, 0.15, xtol=1e-13), tenor).item()

    call, put = at_delta(0.25), at_delta(0.75)
    assert found["atm"] == pytest.approx(atm, rel=1e-10)
    assert found["rr25"] == pytest.approx(call - put, abs=1e-10)
    assert found["bf25"] == pytest.approx((call + put) / 2 - atm, abs=1e-10)


def test_a_delta_beyond_the_smile_has_no_number(node: str) -> None:
    grid = Grid(TENORS, np.linspace(-0.02, 0.02, 5), "log_moneyness")
    found = values_of(node, grid, 1.0, np.zeros(1))
    assert np.isfinite(found["atm"])
    assert np.isnan([found["rr25"], found["bf25"], found["rr10"], found["bf10"]]).all()


def test_vols_that_cannot_be_are_no_smile(node: str) -> None:
    grid = Grid(TENORS, NODES["log_moneyness"], "log_moneyness")
    iv = surface(grid)
    iv[1, 3] = -0.1
    program = "m.reader(value[0], value[1])(0.3)"
    assert called(node, "grid.js", program, [grid.to_dict(), iv.ravel().tolist()]) is None


@pytest.mark.slow
def test_percentiles_are_those_of_numpy(node: str) -> None:
    random = np.random.default_rng(4)
    names = ("misfit_a_point", "distance", "largest_error")
    scores = {name: np.sort(random.normal(2.0, 1.0, 1001)).tolist() for name in names}
    scores["distance"][10] = scores["distance"][11]
    levels = np.linspace(0.0, 100.0, 1001)
    for misfit, distance, error in random.normal(2.0, 1.2, (10, 3)):
        value = [scores | {"fewest_points": 3}, {"misfit": 4 * misfit, "distance": distance, "error": [0, error, 0, 0]}]
        found = called(node, "score.js", "m.ranks(value[0], value[1])", value)
        expected = [
            np.interp(x, scores[name], levels) for x, name in zip((misfit, distance, abs(error)), names, strict=True)
        ]
        assert list(found.values()) == pytest.approx(expected, abs=1e-9)
    assert called(node, "score.js", "m.ranks(value[0], value[1])", [scores | {"fewest_points": 5}, value[1]]) is None


def test_quantiles_of_fans_are_those_of_numpy(node: str) -> None:
    numbers, levels = np.random.default_rng(5).normal(size=37), [0.05, 0.25, 0.5, 0.75, 0.95]
    found = called(node, "quantiles.js", "m.quantiles(value[0], value[1])", [numbers.tolist(), levels])
    np.testing.assert_allclose(found, np.quantile(numbers, levels), rtol=1e-14)


_LAYOUTS = {
    "expiry": "date,expiry,strike,forward,bid_iv,ask_iv\n"
    "2026-03-02,2026-06-19,90,100,0.25,0.27\n2026-03-02,2027-03-19,110,100,0.2,0.21\n",
    "times of day": "date,expiry,log_moneyness,iv\n"
    "2026-03-02 10:00,2026-03-06 16:00,-0.1,0.25\n2026-03-02 10:00,2026-03-13 16:00,0.1,0.2\n",
    "offsets from UTC": "date,expiry,log_moneyness,iv\n"
    "2026-03-02T20:00Z,2026-03-03T16:00-04:00,-0.1,0.25\n2026-03-02T20:00Z,2026-03-20T22:30+05:30,0.1,0.2\n",
    "midnights with offsets": "date,expiry,log_moneyness,iv\n"
    "2026-03-02T16:00-05:00,2026-03-04T00:00Z,-0.1,0.25\n2026-03-02T16:00-05:00,2026-03-13T21:00Z,0.1,0.2\n",
    "labels": "tenor,call_delta,iv\n3M,0.25,0.2\n1Y,0.6,0.22\n2W,0.5,0.25\n",
    "thousands": 'days,strike,forward,iv\n30,"3,900.50","4,000",0.25\n90,"4,100",4000,0.2\n',
    "quoted decimal commas": 'tenor_years,log_moneyness,iv\n"0,250","-0,105","0,085"\n"1,085","0,125","1,250"\n',
    "commas of other columns": 'days,strike,forward,iv\n30,"1,085","1,080","0,085"\n90,"1,100","1,090","0,09"\n',
    "thousands beside points": 'days,strike,forward,iv\n30,"1,085","1,080",0.085\n',
    "thousands by rule": 'days,strike,forward,iv\n30,"1,085","1,080",1\n',
    "marks by column": 'days;strike;forward;iv\n30;"1.085,5";1.080,5;0.085\n90;1.100;1.090,5;0.09\n',
    "decimal commas": "days;strike;forward;iv\n30;18.600,00;18.500;0,25\n90;19000;18.500;0,2\n",
    "plain": "days,log_moneyness,iv,weight\n30,-0.1,0.25,1\n90,0.05,0.2,0.5\n",
}


@pytest.mark.parametrize("layout", _LAYOUTS)
def test_layouts_are_read_as_the_command_reads_them(node: str, layout: str, tmp_path: Path) -> None:
    path = tmp_path / "quotes.csv"
    path.write_text(_LAYOUTS[layout])
    expected = complete_quotes.read(path, ReadingOptions(None, {}, {}), Choice())
    order = np.argsort(expected.row)
    found = called(node, "quotes.js", "m.parse(value, 0.001)", _LAYOUTS[layout])
    rounded = {"rtol": 2e-8, "atol": 1e-9}  # the command rounds labels of tenors to nine digits
    np.testing.assert_allclose(found["tenor"], expected.tenor[order], **rounded)
    np.testing.assert_allclose(found["logMoneyness"], expected.k[order], **rounded)
    np.testing.assert_allclose(found["iv"], expected.iv[order], rtol=1e-14)
    dates = {
        "expiry": "2026-03-02",
        "times of day": "2026-03-02 10:00",
        "offsets from UTC": "2026-03-02T20:00Z",
        "midnights with offsets": "2026-03-02T16:00-05:00",
    }
    assert found["date"] == dates.get(layout)


_OF_THE_FIELD = {
    "camel case": "quoteDate,expirationDate,strikePrice,forwardPrice,impliedVol\n"
    "2026-03-02,2026-06-19,90,100,0.25\n2026-03-02,2027-03-19,110,100,0.2\n",
    "apostrophes": "Datum;Verfall;Basispreis;Forward;Impl. Vola %\n"
    "2026-03-02;19-Jun-2026;1'050;1'085.5;25.5\n2026-03-02;19-Mar-2027;1'100;1'090.25;20.5\n",
    "blanks": "date;expiry;Strike Price;fwd;IV\n"
    "2 Mar 2026;Jun 19 2026;1\u202f050;1\u00a0085,5;0,255\n2 Mar 2026;Mar 19, 2027;1 100;1 090,25;0,205\n",
    "labels named expiry": "Expiry|k|IV (%)\n3M|-0.1|25.5\n18 mths|0.05|20.5\n",
    "years named maturity": "maturity,call delta,vol\n0.25,0.25,0.255\n1.5,0.6,0.205\n",
    "groups of India": 'DTE,strike,fut,vol\n30,"1,05,000.00","1,00,000.00",0.25\n90,"1,10,000.50",100000.00,0.2\n',
    "strikes beside a forward": 'dte,strike,forward,iv\n30,"1,085",1080,1\n90,"1,100",1090,1\n',
    "strikes beside a rate": 'dte,strike,forward,iv\n30,"1,085",1,1\n90,"1,100",1,1\n',
}


@pytest.fixture(scope="module")
def of_the_field(node: str) -> dict[str, Any]:
    """Texts in layouts of the field as the page reads them."""
    program = """Object.entries(value.texts).map(([name, text]) =>
      [name, m.parse(text, 0.001, "decimal", ({ logMoneyness }) => {
        if (logMoneyness.some((k) => Math.abs(k) > 2)) throw new Error("strike and forward are in different units");
      })])"""
    return dict(called(node, "quotes.js", program, {"texts": _OF_THE_FIELD}))


@pytest.mark.parametrize("layout", _OF_THE_FIELD)
def test_names_of_the_field_are_those_of_the_command(of_the_field: dict[str, Any], layout: str, tmp_path: Path) -> None:
    path = tmp_path / "quotes.csv"
    path.write_text(_OF_THE_FIELD[layout])
    reading, *_ = file_readings.find(path, ReadingOptions(None, {}, {})).readings
    row = reading.table.kept_rows[np.argsort(reading.table.order[reading.table.kept_rows])]
    found, rounded = of_the_field[layout], {"rtol": 2e-8, "atol": 1e-9}
    np.testing.assert_allclose(found["tenor"], reading.table["tenor"][row], **rounded)
    np.testing.assert_allclose(found["logMoneyness"], reading.table["k"][row], **rounded)
    np.testing.assert_allclose(found["iv"], reading.table["vol"][row], rtol=1e-14)


def test_a_quote_that_is_repeated_counts_once(node: str) -> None:
    """A call and a put of one strike say one vol; twice as many quotes would make the intervals too narrow."""
    text = "days,strike,forward,type,iv\n30,90,100,C,0.25\n30,90,100,P,0.2501\n30,110,100,C,0.2\n"
    found = called(node, "quotes.js", "m.parse(value, 0.001)", text)
    assert (found["iv"], found["rows"], found["repeated"]) == ([0.25, 0.2], [0, 2], 1)
    weighted = "days,strike,forward,iv,weight\n30,90,100,0.25,1\n30,90,100,0.2501,2\n30,110,100,0.2,1\n"
    assert called(node, "quotes.js", "m.parse(value, 0.001).iv", weighted) == [0.25, 0.2501, 0.2]


def test_a_strike_that_stands_alone_is_said(node: str) -> None:
    """The commands look whether it has a digit too many; a smile of few strikes shows nothing."""
    rows = [f"30,{strike},100,0.2" for strike in (90, 95, 975, 100, 105, 110)]
    texts = ["\n".join(["days,strike,forward,iv", *own]) for own in (rows, rows[:2] + rows[3:], rows[:4])]
    noted, *others = called(node, "quotes.js", "value.map((text) => m.parse(text, 0.001).note)", texts)
    assert noted.startswith("row 3: strike lies far from all others of its tenor; `volvae complete` looks")
    assert others == ["", ""]


def test_days_of_excel_are_refused_with_where_they_are_read(node: str) -> None:
    program = "(() => { try { m.parse(value, 0.001); } catch (error) { return error.message; } })()"
    text = "date,expiry,log_moneyness,iv\n44972,45000,0,0.2\n"
    refusal = called(node, "quotes.js", program, text)
    assert refusal.startswith('row 1: date is "44972"; it must be a date such as 2026-03-02; days as Excel counts them')


def test_the_newest_date_is_last_however_it_is_written(node: str) -> None:
    rows = "".join(f"{date},30,0,0.2\n" for date in ("10-Mar-2026", "9-Feb-2026", "2026-03-10", "9-Mar-2026"))
    program = (
        "[m.dates(value), m.ofDate(value, '10-Mar-2026').split('\\n').length, m.dates(value.replace('9-Feb', '1/2/'))]"
    )
    dates, lines, unclear = called(node, "quotes.js", program, f"date,days,k,iv\n{rows}")
    assert (dates, lines) == (["9-Feb-2026", "9-Mar-2026", "2026-03-10"], 3)
    assert unclear == ["1/2/-2026", "9-Mar-2026", "2026-03-10"]


@pytest.mark.parametrize(
    "written",
    [
        ("03/02/2026", "03/03/2026"),
        ("2026-03-02 16:00:00", "2026-03-03T09:30Z"),
        ("2026-3-2", "2026-3-10"),
        ("", "2026-03-03"),
    ],
)
def test_dates_are_kept_apart_whether_or_not_they_can_be_read(node: str, written: tuple[str, str]) -> None:
    text = f"date,days,log_moneyness,iv\n{written[0]},30,0,.20\n{written[1]},30,.01,.22\n"
    program = """[m.dates(value), m.parse(m.ofDate(value, m.dates(value)[0]), 0.001).iv, (() => {
      try { m.parse(value, 0.001); } catch (error) { return error.message; }
    })()]"""
    dates, first, refusal = called(node, "quotes.js", program, text)
    assert (dates, first) == (list(written), [0.2])
    assert refusal.startswith(f'row 2: date is "{written[1]}", another than in row 1')


def test_rows_of_one_date_at_several_times_are_of_one_surface(node: str) -> None:
    text = "date,days,k,iv\n2026-03-02 16:00,30,0,0.2\n2026-03-02 16:05,30,-0.1,0.22\n"
    assert called(node, "quotes.js", "[m.dates(value).length, m.parse(value, 0.001).iv]", text) == [1, [0.2, 0.22]]


def test_the_page_has_the_names_of_the_command() -> None:
    assert column_names.NAMES.read_text("utf-8") == column_names.text(), "run `make deps`"


def test_files_are_read_in_the_encodings_of_the_command(node: str) -> None:
    text = "days;strike;forward;iv\n30;1\u00a0050;1\u00a0085,5;0,25\n"
    files = [text.encode(name) for name in ("utf-8", "utf-16", "utf-16-le", "windows-1252")]
    files += [b"\xef\xbb\xbf" + text.encode(), b"\xfe\xff" + text.encode("utf-16-be")]
    found = called(
        node, "quotes.js", "value.map((one) => m.textOf(Uint8Array.from(one)))", [list(one) for one in files]
    )
    assert found == [text] * len(files)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("days,log_moneyness,iv\n30,0,21.5", "percent"),
        ("days,log_moneyness,iv\n30,0,21.5%", "decimal"),
        ("days;k;vol (%)\n30;0;21,5", "decimal"),
        ("days\tmoneyness\timplied vol pct\n30\t1\t21.5", "decimal"),
        ("dte,delta,iv_percent\n30,50C,21.5", "decimal"),
    ],
)
def test_percent_is_read_where_it_is_said(node: str, text: str, unit: str) -> None:
    found = called(node, "quotes.js", "m.parse(value[0], 0.001, value[1])", [text, unit])
    assert found["iv"] == [pytest.approx(0.215, rel=1e-14)]
    assert found["tenor"] == [30 / 365]


_REFUSED = {
    "days,log_moneyness,iv\n30,0,0.2\n30,0.1,many": (2, "iv", 'row 2: iv is "many", not a number'),
    "tenor,log_moneyness,iv\n30,0,0.2": (1, "tenor", 'row 1: tenor is "30"; allowed: ON, or days'),
    "date,expiry,log_moneyness,iv\n2026-03-02,2026-03-02,0,0.2": (1, "expiry", "row 1: expiry is not after the date"),
    "date,expiry,log_moneyness,iv\n2026-03-02 14:00Z,2026-03-03 16:00,0,0.2": (
        1,
        "expiry",
        "row 1: expiry is a time without",
    ),
    "date,expiry,log_moneyness,iv\n2026-03-02 14:00,2026-03-03 16:00Z,0,0.2": (
        1,
        "date",
        "row 1: date is a time without",
    ),
    "date,expiry,log_moneyness,iv\n2026-02-30,2026-03-02,0,0.2": (1, "date", 'row 1: date is "2026-02-30"; it must'),
    "date,expiry,k,iv\n2026-03-02,2026-04-02,0,0.2\n2026-03-03,2026-04-02,0,0.2": (
        2,
        "date",
        'row 2: date is "2026-03-03", another',
    ),
    "days,delta,iv\n30,ATM,0.2": (1, "delta", 'row 1: delta is "ATM"; allowed: 25C'),
    "days,delta,iv\n30,0.25,0.2": (1, "delta", 'row 1: delta is "0.25"; allowed: 25C'),
    "days,k,iv,vol\n30,0,0.2,0.2": (None, None, "two columns are iv; leave one out"),
    "days;strike;forward;iv\n30;90;100;1\n30;1,085;1;1": (
        2,
        "strike",
        'row 2: strike is "1,085", decimals or thousands',
    ),
    "days;strike;forward;iv\n30;1.085;1;1": (1, "strike", 'row 1: strike is "1.085", decimals or thousands'),
    'days,k,iv\n30,"0,105",0.2\n30,0.1,0.2': (
        1,
        "log_moneyness",
        'row 1: log_moneyness is "0,105", decimals or thousands',
    ),
    'days,k,iv\n"1,050",0,1\n"1,095",0,1': (1, "days", 'row 1: days is "1,050", decimals or thousands'),
    'days,k,iv,weight\n30,0,1,"1,000"\n91,0,1,"2,000"': (
        1,
        "weight",
        'row 1: weight is "1,000", decimals or thousands',
    ),
    'days,delta,forward,iv\n30,25C,"1,085",20%': (1, "forward", 'row 1: forward is "1,085", decimals or thousands'),
    "days,k,iv\n30,0,0.2\n91,0,0.2\n30,0,0.25": (3, "iv", "row 3: iv is 0.25, but row 1, of the same tenor and strike"),
    "days,K,F,iv\n30,0.14,0.16,0.2\n30,0.18,0.16,0.2": (
        None,
        None,
        "column K may be strike or log_moneyness; name it as one of them",
    ),
    "days,k,iv,weight\n30,0,0.25,1\n30,0,0.45,1": (2, "iv", "row 2: iv is 0.45, but row 1, of the same tenor"),
    "days,kovers,iv\n30,1,0.2": (None, None, "quotes need exactly one column of log_moneyness, moneyness"),
    "days,strike,forward,bid,ask\n30,90,100,0.2,0.3": (None, None, "quotes need exactly one column of iv, bid_iv"),
    "expiry,log_moneyness,iv\n2026-03-02,0,0.2": (None, None, "quotes need exactly one column of date, not 0"),
}


def test_a_wrong_cell_is_named_by_row_and_column(node: str) -> None:
    program = """value.map((text) => {
      try { return m.parse(text, 0.001); } catch (error) { return [error.row, error.column, error.message]; }
    })"""
    found = called(node, "quotes.js", program, list(_REFUSED))
    for (row, column, message), expected in zip(found, _REFUSED.values(), strict=True):
        assert (row, column) == expected[:2]
        assert message.startswith(expected[2])


@pytest.mark.slow
def test_an_address_gives_back_what_was_written_into_it(node: str) -> None:
    quotes = "days,k,iv\n" + "".join(f"{days},0.{days},0.2\n" for days in range(10, 90))
    since = {"elapsed": 1.5, "logReturn": -0.01}
    source = {"kind": "quotes", "text": quotes, "unit": "percent", "market": "AUD/USD", "since": since}
    kept = {"kind": "latents", "z": [0.5, -1.25e-7, 2.0]}
    settings = {"axis": "strike", "quantity": "density", "forward": 4012.5, "from": [-0.5, 0.75]}
    value = {"version": "abc 1", "source": source, "kept": kept, "settings": settings, "tenor": 3}
    program = "m.written(value).then(m.read)"
    found = called(node, "address.js", program, value)
    assert found["source"] == source
    assert found["kept"]["z"] == kept["z"]
    assert (found["settings"], found["tenor"], found["version"]) == (settings, 3, "abc 1")
    fragment = called(node, "address.js", "m.written(value)", value)
    assert len(fragment) < len(quotes)
    for wrong, why in (
        ("#seed=x", "the seed in this address"),
        ("#z=1,b", "the latents in this address"),
        ("#seed=18446744073709551616", "the seed in this address"),
        ("#quotes=AAAA", "cut short"),
    ):
        said = called(node, "address.js", "m.read(value).catch((error) => error.message)", wrong)
        assert why in said


def test_what_is_saved_can_be_compared_with(node: str) -> None:
    for grid in (Grid(TENORS, nodes, name) for name, nodes in NODES.items()):
        iv = surface(grid).ravel().tolist()
        program = "[...m.readCsv(value[0], m.csv(value[0], { iv: value[1] }))]"
        np.testing.assert_allclose(called(node, "grid.js", program, [grid.to_dict(), iv]), iv, rtol=1e-7)
    other = Grid(TENORS, NODES["delta"][:-1], "delta")
    program = """(() => {
      try { m.readCsv(value[0], m.csv(value[1], { iv: value[2] })); } catch (error) { return error.message; }
    })()"""
    said = called(node, "grid.js", program, [other.to_dict(), grid.to_dict(), iv])
    assert said == "the file has 27 points, but the grid of this model 24"


def test_latents_are_described_by_what_they_move(node: str) -> None:
    grid = Grid(TENORS, NODES["log_moneyness"], "log_moneyness")
    low, high = surface(grid), surface(grid) + 0.02
    value = [grid.to_dict(), low.ravel().tolist(), high.ravel().tolist()]
    found = called(node, "effects.js", "m.effects(value[0], value[1], value[2])", value)
    assert found["level"] == pytest.approx(1.0, abs=1e-9)  # half of two vol points
    assert found["term"] == pytest.approx(0.0, abs=1e-9)
    assert called(node, "effects.js", "m.inWords(value)", found).startswith("level higher 1.00")
    assert called(node, "effects.js", "m.inWords(value)", {"level": 0.1, "skew": -1.0}) == "puts dearer 1.00"


def test_ticks_are_round_and_inside(node: str) -> None:
    assert called(node, "ticks.js", "m.ticks(20, 31, 6)", None) == [20, 22, 24, 26, 28, 30]
    found = called(node, "ticks.js", "m.ticks(-0.62, 0.55, 5)", None)
    assert found == [-0.5, 0, 0.5]
