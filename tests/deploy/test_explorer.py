"""The explorer, as a person uses it."""

import csv
import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path

import brotli
import numpy as np
import pytest
from playwright.sync_api import Browser
from scipy.stats import norm

from pipeline.cli import complete_quotes
from pipeline.cli.quotes_options import ReadingOptions
from pipeline.sources.one_surface import Choice
from tests.bundles import linear_model
from tests.deploy.browser import Explorer, chromium
from tests.deploy.serving import ROOT, Server, serving
from tests.workspace import Workspace
from vae.runtime import Completion, SurfaceModel
from vae.surface import arbitrage, plausible
from vae.surface.grid import Grid

CLOSE = {"atol": 2e-6, "rtol": 0.0}  # single precision in WebAssembly
ASSETS = ROOT / "deploy/explorer"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def bundle(finished: Workspace) -> Path:
    """A trained bundle, whose surfaces have more tenors and nodes than the one of the other tests."""
    return finished.folder / "artifacts/bundle"


@pytest.fixture(scope="module")
def model(bundle: Path) -> SurfaceModel:
    return SurfaceModel.load(bundle, provider="cpu", threads=1)


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(bundle, tmp_path_factory.mktemp("explorer")) as found:
        yield found


@pytest.fixture(scope="module")
def opened(browser: Browser, server: Server) -> Explorer:
    return Explorer(browser, server.address).ready()


@pytest.fixture
def explorer(opened: Explorer) -> Iterator[Explorer]:
    """The page as it is after it was opened; the browser must not have complained when the test ends."""
    opened.start_again()
    yield opened
    assert opened.faults == []


def quotes_file(folder: Path, model: SurfaceModel) -> Path:
    """Four quotes of a drawn surface, and one that the grid does not reach."""
    surfaces = model.surfaces(model.sample(1, seed=5))
    spots = [(0.2, -0.05), (0.5, 0.0), (0.5, -0.1), (0.9, 0.05)]
    rows = [(tenor, k, surfaces.at(log_moneyness=[k], tenor=tenor).item()) for tenor, k in spots]
    rows.append((0.5, 3.0, 0.2))
    path = folder / "quotes.csv"
    path.write_text("tenor_years,log_moneyness,iv\n" + "".join(f"{t},{k},{iv:.6f}\n" for t, k, iv in rows))
    return path


def completed(model: SurfaceModel, path: Path) -> Completion:
    """The quotes that the command reads from a file."""
    quotes = complete_quotes.read(path, ReadingOptions(None, {}, {}), Choice())
    return complete_quotes.run(model, complete_quotes.for_model(model, quotes, None))


def test_it_opens_with_the_surface_of_a_seed(explorer: Explorer, server: Server, model: SurfaceModel) -> None:
    np.testing.assert_allclose(explorer.surface(), model.sample(1, seed=1)[0], **CLOSE)
    assert server.version() in explorer.text("about")
    assert explorer.page.title() == "volvae: explorer"


def test_a_slider_moves_the_surface_by_keyboard(explorer: Explorer, model: SurfaceModel) -> None:
    before = explorer.latents()
    explorer.page.focus("#z2")
    explorer.does("End")
    after = explorer.latents()
    assert after[1] == 4.0
    assert [after[0], after[2]] == [before[0], before[2]]
    drawn = model.draw(1, seed=1).latents  # sliders show two digits of them, and the others stay what they are
    drawn[0, 1] = 4.0
    np.testing.assert_allclose(explorer.surface(), model.decode(drawn)[0], **CLOSE)


def test_a_slider_moves_the_surface_by_mouse(explorer: Explorer) -> None:
    box = explorer.page.locator("#z1").bounding_box()
    assert box is not None
    before = explorer.surface()
    explorer.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    explorer.page.mouse.down()
    explorer.page.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2, steps=10)
    explorer.page.mouse.up()
    explorer.page.wait_for_function("Number(document.getElementById('z1').value) < -3")
    assert np.abs(explorer.surface() - before).max() > 1e-4


def test_keys_reset_and_sample(explorer: Explorer, model: SurfaceModel) -> None:
    np.testing.assert_allclose(explorer.does("r"), model.decode(np.zeros((1, model.latents)))[0], **CLOSE)
    assert explorer.latents() == [0.0] * model.latents
    seeds = set()
    for _ in range(2):
        np.testing.assert_allclose(explorer.does("s"), model.sample(1, seed=explorer.seed())[0], **CLOSE)
        seeds.add(explorer.seed())
    assert len(seeds) == 2


def test_a_seed_that_is_typed_is_drawn_exactly(explorer: Explorer, model: SurfaceModel) -> None:
    explorer.page.fill("#seed", str(2**64 - 1))
    np.testing.assert_allclose(explorer.does("Enter"), model.sample(1, seed=2**64 - 1)[0], **CLOSE)
    explorer.page.fill("#seed", str(2**64))
    explorer.page.keyboard.press("Enter")
    explorer.page.wait_for_selector("#status.bad")
    assert explorer.text("status") == f'the seed is "{2**64}"; allowed: whole numbers from 0 to 2^64 - 1'


def test_a_walk_goes_on_until_it_is_stopped(explorer: Explorer) -> None:
    seen = [explorer.does("w")] + [explorer.does("Shift") for _ in range(3)]
    assert explorer.page.get_attribute("#walk", "aria-pressed") == "true"
    assert len({surface.tobytes() for surface in seen}) == 4
    explorer.page.click("#reset")
    explorer.until("[...document.querySelectorAll('#latents input')].every((one) => Number(one.value) === 0)")
    assert explorer.page.get_attribute("#walk", "aria-pressed") == "false"


def test_quotes_of_a_file_are_completed(explorer: Explorer, model: SurfaceModel, tmp_path: Path) -> None:
    path = quotes_file(tmp_path, model)
    explorer.page.set_input_files("#file", path)
    fit = explorer.until_text("fit", "quotes used")
    expected = completed(model, path)
    np.testing.assert_allclose(explorer.surface(), expected.iv, atol=1e-5)
    assert fit.startswith("4 of 5 quotes used, the others are out of reach of the grid; errors ")
    (band,) = [trace for trace in explorer.smiles() if trace["kind"] == "band"]
    tenor = 1  # 182 days, where most quotes are
    deviation = (np.array(band["high"]) - np.array(band["low"]))[[0, -1]] / 200  # at the first and the last node
    np.testing.assert_allclose(deviation, 1.6449 * expected.std[tenor, [0, -1]], atol=2e-5)
    marks = {trace["name"]: trace["x"] for trace in explorer.smiles()}
    assert marks["quotes"] == [0.0, -0.1]
    assert marks["out of reach"] == [3.0]


def test_what_is_saved_is_what_the_command_writes(explorer: Explorer, model: SurfaceModel, tmp_path: Path) -> None:
    quotes = quotes_file(tmp_path, model)
    explorer.page.fill("#quotes", quotes.read_text())
    explorer.does("#complete")
    with explorer.page.expect_download() as download:
        explorer.page.click("#download")
    complete_quotes.write(tmp_path / "expected.csv", model, completed(model, quotes))
    found, expected = (
        list(csv.reader(path.read_text().splitlines())) for path in (download.value.path(), tmp_path / "expected.csv")
    )
    assert found[0] == expected[0]
    np.testing.assert_allclose(np.array(found[1:], float), np.array(expected[1:], float), atol=2e-5)


def test_quotes_that_cannot_be_read_are_named_and_change_nothing(explorer: Explorer) -> None:
    before = explorer.surface()
    for text, why in (
        ("", "there are no quotes"),
        ("tenor_years,log_moneyness,iv\n0.5,0,0.2\n0.5,0.1,many", 'row 2: iv is "many", not a number'),
        ("tenor_years,log_moneyness,iv\n0.5,0", "row 1: iv is missing, not a number"),
        ("0.5 0 -0.2", "row 1: iv is -0.2; it must be positive"),
        (
            "tenor_years,place,iv\n1,0,0.2",
            "one column of log_moneyness, moneyness, call_delta, delta, strike, not 0",
        ),
        ("days,strike,iv\n1,90,0.2", "exactly one column of forward, not 0"),
        ("days,call_delta,iv\n1,1,0.2", "row 1: call_delta is 1; it must be inside (0, 1)"),
        ("50,0,0.2", "no quote is within reach of the grid"),
        ("0.5,0,1e30", "the median vol 1e+30 is"),
        ("0.5,0,21\n0.5,0.1,22", "in percent it would be 21.5 %: divide by 100"),
        ("0.5,0,0.2\n0.5,0.1,0.21\n0.5,0.2,1e-5", "row 3: the vol 0.00001 is no quote beside a median of 0.2"),
        ("182,0,0.2", "the tenor 182 is more than 50 years"),
        ("0,5,0,1,0,2", "row 1 has 6 cells for 3 columns; with decimal commas"),
        ("days,log_moneyness,bid_iv,ask_iv\n182,0,0.3,0.2", "row 1: bid_iv 0.3 is above ask_iv 0.2"),
    ):
        explorer.page.fill("#quotes", text)
        explorer.page.click("#complete")
        explorer.until_text("fit", why)
        assert explorer.page.get_attribute("#fit", "class") == "bad"
    np.testing.assert_array_equal(explorer.surface(), before)


def test_points_of_the_surface_lead_back_to_it(explorer: Explorer) -> None:
    before = explorer.surface()
    explorer.does("#example")
    assert explorer.text("fit").startswith("12 of 12 quotes used; errors ")
    assert np.abs(explorer.surface() - before).mean() < 0.005
    explorer.page.click("#clear")
    assert not [trace for trace in explorer.smiles() if trace["name"] == "quotes"]


def test_columns_of_quotes_are_those_of_the_command(explorer: Explorer, tmp_path: Path) -> None:
    for text in (
        "tenor_years,call_delta,iv\n0.25,0.0001,0.4\n0.25,0.25,0.21\n1,0.9,0.3\n1,0.99999,0.5\n",
        "days;strike;forward;iv;weight\n30;90;100;0.2;1\n365;110;101;0.25;0.5\n",
        "# a comment\niv\ttenor_years\tlog_moneyness\n0.2\t0.5\t-0.1\n",
    ):
        read = explorer.imported("quotes.js", "m.parse(value, 0.001)", text)
        path = tmp_path / "quotes.csv"
        path.write_text(text.replace("# a comment\n", "").replace(";", ",").replace("\t", ","))
        expected = complete_quotes.read(path, ReadingOptions(None, {}, {}), Choice())
        order = np.argsort(expected.row)  # in the order of the file
        np.testing.assert_allclose(read["logMoneyness"], expected.k[order], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(read["tenor"], expected.tenor[order], rtol=1e-8)
        np.testing.assert_array_equal(read["iv"], expected.iv[order])
        weight = None if expected.weight is None else expected.weight[order].tolist()
        assert read["weight"] == weight


def test_bid_and_ask_are_read_with_half_their_spread_as_noise(explorer: Explorer) -> None:
    text = "Days;Call_Delta;Bid_IV;Ask_IV\n182,5;0,5;0,20;0,24\n30;0,5;0,2;0,2\n"
    read = explorer.imported("quotes.js", "m.parse(value, 0.01)", text)
    np.testing.assert_allclose(read["iv"], [0.22, 0.2], rtol=1e-15)
    np.testing.assert_allclose(read["tenor"], [0.5, 30 / 365], rtol=1e-15)
    np.testing.assert_allclose(read["weight"], [0.25, 1.0], rtol=1e-12)


_REFUSALS = """value.quotes.map(([tenor, logMoneyness, iv]) => {
  try {
    m.check(value.limits, { tenor, logMoneyness, iv });
    return "";
  } catch (error) {
    return error.message;
  }
})"""


def refusal(tenors: list[float], k: list[float], vols: list[float]) -> str:
    """Why the library refuses quotes; empty where it takes them."""
    try:
        plausible.check_vols(vols)
        plausible.check_tenors(tenors)
        plausible.check_log_moneyness(k)
    except ValueError as error:
        return str(error)
    return ""


def test_quotes_are_refused_by_the_rules_of_the_library(explorer: Explorer, server: Server) -> None:
    random, quotes = np.random.default_rng(5), []
    for _ in range(300):
        vols = 10.0 ** random.uniform(-2.5, 1.0) * random.uniform(0.1, 3.0, 6)
        k = random.uniform(-1.0, 1.0) + random.uniform(0.1, 2.0, 6)
        quotes.append([random.uniform(0.0, 51.0, 6).tolist(), k.tolist(), vols.tolist()])
    limits = server.ask("GET", "/explorer/plausible.json").json()
    found = explorer.imported("plausible.js", _REFUSALS, {"limits": limits, "quotes": quotes})
    expected = [refusal(*each) for each in quotes]
    assert 30 < sum(map(bool, expected)) < 270
    assert [bool(message) for message in found] == [bool(message) for message in expected]
    for theirs, ours in zip(found, expected, strict=True):
        assert theirs.partition(" ")[0] in (ours.partition(" ")[0], "row")


@pytest.mark.parametrize("convention", ["log_moneyness", "sqrt_time", "delta"])
@pytest.mark.parametrize("nodes", [2, 3, 4, 11])
def test_arbitrage_is_what_the_library_measures(explorer: Explorer, convention: str, nodes: int) -> None:
    low, high = (0.1, 0.9) if convention == "delta" else (-0.6, 0.5)
    grid = Grid(np.array([0.4, 0.5, 0.6]), np.linspace(low, high, nodes), convention)
    random = np.random.default_rng(nodes)
    smooth = 0.2 + 0.05 * (grid.nodes - 0.4) ** 2 + 0.02 * np.sqrt(grid.tenors)[:, None]
    iv = smooth * np.exp(np.array([0.0, 0.05, 0.3, 1.0])[:, None, None] * random.standard_normal((4, *grid.shape)))
    expected = arbitrage.violations(iv, grid)
    assert expected.size.max() > 0.0
    for number, surface in enumerate(iv):
        arguments = [grid.to_dict(), surface.ravel().tolist()]
        found = explorer.imported("arbitrage.js", "m.violations(value[0], value[1])", arguments)
        assert (found is not None) == expected.usable[number]
        for kind, sizes, places in zip(arbitrage.KINDS, expected.size[:, number], expected.k[:, number], strict=True):
            if found is not None:
                assert found[kind]["size"] == pytest.approx(sizes.max(), rel=1e-8, abs=1e-13)
                if sizes.max() > 1e-10:
                    assert found[kind]["tenor"] == grid.tenors[sizes.argmax()]
                    assert found[kind]["k"] == pytest.approx(places[sizes.argmax()])


def test_smiles_between_tenors_are_read_as_the_library_reads_them(explorer: Explorer, model: SurfaceModel) -> None:
    """A sampled surface, and one whose term structure is too rough for cubics."""
    sample = model.sample(1, seed=2)
    rough = sample * np.resize([1.0, 0.7], model.grid.shape[0])[:, None]
    k = [-0.2, -0.05, 0.0, 0.04, 0.3]
    program = "m.smileAt(...value).map((vol) => (Number.isNaN(vol) ? null : vol))"
    for iv, tenor in itertools.product((sample, rough), (model.grid.tenors[0], 0.3, 0.75, model.grid.tenors[-1], 5.0)):
        arguments = [model.grid.to_dict(), iv.ravel().tolist(), tenor, k]
        found = np.array(explorer.imported("grid.js", program, arguments), float)
        np.testing.assert_allclose(found, model.surfaces(iv).at(log_moneyness=k, tenor=tenor)[0], rtol=1e-6)


def test_quotes_between_tenors_lie_on_a_smile_of_their_own(explorer: Explorer) -> None:
    explorer.page.fill("#quotes", "0.4 -0.1 0.3\n0.4 0 0.28\n0.4 0.1 0.27")
    explorer.does("#complete")
    names = [trace["name"] for trace in explorer.smiles()]
    assert names[-4:] == ["146 days", "quotes", "wild", "out of reach"]


def test_a_surface_with_arbitrage_is_called_so(explorer: Explorer, model: SurfaceModel) -> None:
    assert explorer.text("verdict") == "free of static arbitrage"
    for number in range(model.latents):
        explorer.page.evaluate(
            "id => { const slider = document.getElementById(id); slider.min = -40; slider.value = -40; "
            "slider.dispatchEvent(new Event('input')); }",
            f"z{number + 1}",
        )
    explorer.until_text("verdict", "no")
    assert explorer.page.get_attribute("#verdict", "class") == "bad"


def test_it_works_when_the_server_is_gone(browser: Browser, bundle: Path, model: SurfaceModel, tmp_path: Path) -> None:
    with serving(bundle, tmp_path) as server:
        explorer = Explorer(browser, server.address).ready()
    explorer.page.focus("#z1")
    explorer.does("Home")
    drawn = explorer.does("#sample")
    np.testing.assert_allclose(drawn, model.sample(1, seed=explorer.seed())[0], **CLOSE)
    explorer.page.set_input_files("#file", quotes_file(tmp_path, model))
    explorer.until_text("fit", "4 of 5 quotes used")
    with explorer.page.expect_download() as download:
        explorer.page.keyboard.press("d")
    assert download.value.suggested_filename == "surface.csv"
    assert explorer.faults == []
    explorer.page.close()


@pytest.mark.parametrize("width", [360, 800])
def test_it_fits_a_narrow_screen(browser: Browser, server: Server, width: int) -> None:
    explorer = Explorer(browser, server.address, width=width, height=740).ready()
    assert explorer.page.evaluate("document.documentElement.scrollWidth") <= width
    for part in ("#z1", "#sample", "#surface", "#smiles", "#quotes", "#complete", "#checks"):
        box = explorer.page.locator(part).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["width"] > 40
    explorer.page.close()


def test_every_control_has_a_name_and_can_be_reached_by_keyboard(explorer: Explorer) -> None:
    names = explorer.page.evaluate(
        "[...document.querySelectorAll('main :is(input, button, textarea, select)')]"
        ".filter((one) => one.checkVisibility())"
        ".map((one) => [one.id || one.title, one.labels?.[0]?.textContent || one.ariaLabel || one.textContent || ''])"
    )
    assert len(names) > 10
    assert [name for name, label in names if not label.strip()] == []
    reached = set()
    explorer.page.focus("#quantity")
    for _ in range(len(names) + 10):  # and what scrolls or turns
        reached.add(explorer.page.evaluate("document.activeElement.id || document.activeElement.title"))
        explorer.page.keyboard.press("Tab")
    assert {name for name, _ in names} <= reached


def test_letters_that_are_typed_into_a_field_are_no_commands(explorer: Explorer) -> None:
    before = explorer.surface()
    explorer.page.focus("#quotes")
    explorer.page.keyboard.type("rswd")
    assert explorer.page.input_value("#quotes") == "rswd"
    assert explorer.page.get_attribute("#walk", "aria-pressed") == "false"
    np.testing.assert_array_equal(explorer.surface(), before)


@pytest.mark.slow
def test_samples_can_be_asked_for_conditions(browser: Browser, market_bundle: Path, tmp_path: Path) -> None:
    """Two numbers, and one of two markets, of which the second has its latents elsewhere."""
    model = SurfaceModel.load(market_bundle, provider="cpu")
    asked = round(float(linear_model().center[5]) + 0.02, 4)
    with serving(market_bundle, tmp_path) as server:
        explorer = Explorer(browser, server.address).ready()
    explorer.page.fill("#given-atm_level", str(asked))
    drawn = explorer.does("#sample")
    np.testing.assert_allclose(
        drawn, model.sample(1, seed=explorer.seed(), conditions={"atm_level": asked})[0], **CLOSE
    )
    explorer.page.select_option("#market", "EUR/USD")
    drawn, given = explorer.does("#sample"), {"conditions": {"atm_level": asked}, "market": "EUR/USD"}
    np.testing.assert_allclose(drawn, model.sample(1, seed=explorer.seed(), **given)[0], **CLOSE)
    assert not explorer.page.locator("#slide-first").count()  # no known feature: its range is unknown
    explorer.page.select_option("#market", "")
    explorer.page.focus("#slide-atm_level")
    drawn = explorer.does("End")
    asked = float(explorer.page.input_value("#given-atm_level"))
    same = model.sample(1, seed=explorer.seed(), conditions={"atm_level": asked})[0]
    np.testing.assert_allclose(drawn, same, **CLOSE)
    explorer.page.select_option("#market", "EUR/USD")
    explorer.page.fill("#quotes", "tenor_years,log_moneyness,iv\n0.25,0,0.2\n")
    completed = model.complete([0.2], tenor=[0.25], log_moneyness=[0.0], market="EUR/USD").iv
    np.testing.assert_allclose(explorer.does("#complete"), completed, **CLOSE)
    explorer.page.fill("#given-atm_level", "high")
    explorer.page.click("#sample")
    assert explorer.until_text("status", "atm_level") == 'atm_level is "high", not a number'
    explorer.page.close()


def test_a_server_with_a_token_asks_for_it(browser: Browser, bundle: Path, tmp_path: Path) -> None:
    with serving(bundle, tmp_path, environment={"VOLVAE_TOKEN": "of the desk"}) as server:
        explorer = Explorer(browser, server.address)
        explorer.page.wait_for_selector("#entry:not([hidden])")
        assert explorer.text("status") == "the server asks for a token"
        explorer.page.fill("#token", "another")
        explorer.page.keyboard.press("Enter")
        explorer.until_text("status", "this token is not the server's")
        explorer.page.fill("#token", "of the desk")
        explorer.page.keyboard.press("Enter")
        explorer.ready()
        assert not explorer.page.is_visible("#entry")
        assert all("401" in fault for fault in explorer.faults)  # the browser's own lines
        explorer.page.close()
        assert server.ask("GET", "/bundle/decoder.onnx").status == 401


def test_graphs_of_two_versions_are_not_mixed(browser: Browser, server: Server) -> None:
    """The first answer for the sampler is said to come from another version."""
    page = browser.new_page()
    asked = []

    def altered(route, request) -> None:
        answer = route.fetch()
        asked.append(request.url)
        first = len(asked) == 1
        route.fulfill(response=answer, headers=answer.headers | ({"volvae-model-version": "another"} if first else {}))

    page.route("**/bundle/sampler.onnx", altered)
    page.goto(f"http://{server.address}/")
    page.wait_for_selector("main:not([hidden])")
    assert len(asked) == 2
    page.close()


def test_only_what_the_page_runs_is_handed_out(server: Server, bundle: Path) -> None:
    answer = server.ask("GET", "/bundle/decoder.onnx")
    assert answer.body == (bundle / "decoder.onnx").read_bytes()
    assert answer.headers["volvae-model-version"] == server.version()
    for path in (
        "/bundle/encoder.onnx",
        "/bundle/..%2fmanifest.json",
        "/explorer/../server.py",
        "/explorer/%2e%2e/server.py",
    ):
        answer = server.ask("GET", path)
        assert answer.status == 404, path
        assert set(answer.json()) == {"error"}


def test_a_bundle_that_is_being_exchanged_is_not_handed_out(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    copy.mkdir()
    for path in bundle.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    with serving(copy, tmp_path, "--poll", "3600") as server:
        (copy / "decoder.onnx").write_bytes(b"another")
        answer = server.ask("GET", "/bundle/decoder.onnx")
    assert answer.status == 503
    assert answer.json() == {"error": "the model is being exchanged; ask again"}


def test_the_runtime_in_the_package_is_that_of_the_tests(node: str) -> None:
    """`make vendor` copies it."""
    package = ROOT / "tests/javascript/node_modules/onnxruntime-web/dist"
    ours = ASSETS / "onnxruntime-web"
    assert (ours / "ort.wasm.bundle.min.mjs").read_bytes() == (package / "ort.wasm.bundle.min.mjs").read_bytes()
    packed = (ours / "ort-wasm-simd-threaded.wasm.gz").read_bytes()
    original = (package / "ort-wasm-simd-threaded.wasm").read_bytes()
    assert gzip.decompress(packed) == original
    assert brotli.decompress((ours / "ort-wasm-simd-threaded.wasm.br").read_bytes()) == original


@pytest.mark.parametrize("axis", ["k", "scaled", "strike", "delta"])
@pytest.mark.parametrize("quantity", ["vol", "variance", "density"])
def test_smiles_are_drawn_with_the_spline_on_every_axis(
    explorer: Explorer, model: SurfaceModel, axis: str, quantity: str
) -> None:
    explorer.page.fill("#forward", "250")
    explorer.page.select_option("#axis", axis)
    explorer.page.select_option("#quantity", quantity)
    found = explorer.front()
    tenor = model.grid.tenors[int(explorer.page.input_value("#tenor"))]
    nodes = model.grid.log_moneyness[int(explorer.page.input_value("#tenor"))]
    k = np.linspace(nodes[0], nodes[-1], len(found["x"]))
    vols = model.surfaces(model.sample(1, seed=1)).at(log_moneyness=k, tenor=tenor)[0]
    w = vols**2 * tenor
    delta = norm.cdf(-k / np.sqrt(w) + np.sqrt(w) / 2)
    expected = {"k": k, "scaled": k / np.sqrt(tenor), "strike": 250 * np.exp(k), "delta": delta}
    np.testing.assert_allclose(found["x"], expected[axis], rtol=1e-5, atol=1e-6)
    if quantity != "density":  # which test_explorer_numbers.py compares
        np.testing.assert_allclose(found["y"], {"vol": 100 * vols, "variance": w}[quantity], rtol=1e-5)
    assert explorer.page.locator("#smiles svg text", has_text="forward 250").count() == (axis == "strike")


def test_a_forward_that_cannot_be_is_refused(explorer: Explorer) -> None:
    explorer.page.fill("#forward", "250")
    explorer.page.select_option("#axis", "strike")
    before = explorer.front()["x"]
    explorer.page.fill("#forward", "-3")
    assert explorer.until_text("status", "forward") == 'the forward is "-3"; it must be a positive number'
    assert explorer.page.get_attribute("#forward", "aria-invalid") == "true"
    explorer.page.select_option("#quantity", "variance")
    assert explorer.front()["x"] == before
    explorer.page.fill("#forward", "100")


def test_a_click_on_a_smile_brings_it_to_the_front(explorer: Explorer) -> None:
    box = explorer.page.locator("#smiles").bounding_box()
    end = explorer.page.evaluate("(({ x, y }) => [x, y])(document.querySelector('#smiles path').getPointAtLength(3))")
    assert box is not None
    explorer.page.mouse.move(box["x"] + end[0], box["y"] + end[1])
    assert "vol, %" in explorer.page.inner_text(".tip")
    explorer.page.mouse.click(box["x"] + end[0], box["y"] + end[1])
    assert explorer.page.input_value("#tenor") == "0"
    assert explorer.front()["name"] == explorer.text("tenor-name")
    assert explorer.page.inner_text("#marks tr.chosen th") == explorer.text("tenor-name")


def test_a_kept_surface_is_drawn_behind_and_subtracted(explorer: Explorer, model: SurfaceModel) -> None:
    explorer.page.click("#keep")
    explorer.page.fill("#seed", "2")
    explorer.does("Enter")
    (kept,) = [trace for trace in explorer.smiles() if trace["name"] == "seed 1"]
    assert kept["y"] != explorer.front()["y"]
    one, two = (model.surfaces(model.sample(1, seed=seed)) for seed in (1, 2))
    at = {"log_moneyness": 0.0, "tenor": model.grid.tenors[0]}
    change = 100 * (two.at(**at) - one.at(**at)).item()
    shown = explorer.page.inner_text("#marks tbody tr td").replace("\N{MINUS SIGN}", "-")
    assert float(shown) == pytest.approx(change, abs=0.0051)
    assert explorer.text("marks-note") == "Change from seed 1, in vol points."
    explorer.page.click("#forget")
    assert explorer.text("marks-note").startswith("In vol points")
    assert not explorer.page.is_visible("#forget")


def test_a_saved_surface_is_compared_with(explorer: Explorer, tmp_path: Path) -> None:
    with explorer.page.expect_download() as download:
        explorer.page.click("#download")
    saved = Path(download.value.path()).read_text()
    (tmp_path / "yesterday.csv").write_text(saved)
    explorer.page.set_input_files("#other", tmp_path / "yesterday.csv")
    explorer.until_text("marks-note", "yesterday.csv")
    change = explorer.page.inner_text("#marks tbody tr td")
    assert change in ("+0.00", "\N{MINUS SIGN}0.00")
    (tmp_path / "other.csv").write_text(saved.replace("iv", "price"))
    explorer.page.set_input_files("#other", tmp_path / "other.csv")
    explorer.until_text("status", "this is no surface")
    explorer.page.click("#forget")


@pytest.mark.slow
def test_an_address_restores_all_that_is_shown(explorer: Explorer, browser: Browser, server: Server) -> None:
    explorer.page.click("#keep")
    explorer.page.fill("#forward", "4000")
    explorer.page.select_option("#axis", "strike")
    explorer.page.select_option("#quantity", "variance")
    explorer.page.fill("#quotes", "days,strike,forward,iv\n182,3900,4100,22\n182,4100,4100,20")
    explorer.page.select_option("#unit", "percent")
    explorer.does("#complete")
    explorer.page.focus("#surface")
    explorer.page.keyboard.press("ArrowLeft")
    explorer.until("location.hash.includes('quotes=') && location.hash.includes('from=-0.85')")
    address = explorer.page.url.partition("/#")[2]
    again = Explorer(browser, f"{server.address}/#{address}").ready()
    again.until("document.getElementById('fit').textContent.includes('quotes used')")
    np.testing.assert_allclose(again.surface(), explorer.surface(), rtol=1e-6)
    assert again.smiles() == explorer.smiles()
    for control in ("forward", "axis", "quantity", "unit", "quotes", "tenor"):
        assert again.page.input_value(f"#{control}") == explorer.page.input_value(f"#{control}")
    assert again.page.input_value("#forward") == "4100"  # of the quotes
    again.until("location.hash.includes('from=-0.85')")
    assert again.faults == []
    again.page.close()
    explorer.page.click("#forget")


def test_one_date_of_a_file_is_completed_and_another_compared(explorer: Explorer, tmp_path: Path) -> None:
    rows = [f"{date},180,{k},{iv}" for date, iv in (("2026-03-03", 0.22), ("2026-03-02", 0.21)) for k in (-0.1, 0.0)]
    (tmp_path / "quotes.csv").write_text("\n".join(["date,days,log_moneyness,iv", *rows]))
    explorer.page.set_input_files("#file", tmp_path / "quotes.csv")
    explorer.until_text("fit", "2 of 2 quotes used")
    assert explorer.page.input_value("#date") == "2026-03-03"
    explorer.page.click("#keep")
    explorer.page.select_option("#date", "2026-03-02")
    explorer.until("document.getElementById('quotes').value.includes('2026-03-02')")
    explorer.until_text("marks-note", "quotes of 2026-03-03")
    assert "2026-03-03" not in explorer.page.input_value("#quotes")
    explorer.page.click("#forget")
    explorer.page.click("#clear")
    assert not explorer.page.is_visible("#date")


def test_quotes_are_not_shown_with_another_surface_than_theirs(explorer: Explorer) -> None:
    """Nor are their errors, which would be taken for those of the surface that is shown."""
    explorer.page.fill("#quotes", "days,log_moneyness,iv\n182,-0.1,0.22\n182,0,0.2")
    explorer.does("#complete")
    assert [trace["kind"] for trace in explorer.smiles()].count("points")
    explorer.page.focus("#z1")
    explorer.does("ArrowRight")
    assert not [trace["kind"] for trace in explorer.smiles()].count("points")
    assert explorer.text("fit") == ""
    assert not explorer.page.is_visible("#quote-rows")
    assert "182,0,0.2" in explorer.page.input_value("#quotes")


@pytest.mark.parametrize("fragment", ["z=1,2", "seed=abc", "quotes=AAAA", "seed=1&market=nowhere", "seed=1&given=0.3"])
def test_an_address_that_cannot_be_is_said(
    browser: Browser, server: Server, fragment: str, model: SurfaceModel
) -> None:
    explorer = Explorer(browser, f"{server.address}/#{fragment}")
    explorer.page.wait_for_selector("#status.bad")
    assert "address" in explorer.text("status")
    explorer.until("document.getElementById('surface').data")
    np.testing.assert_allclose(explorer.surface(), model.sample(1, seed=1)[0], **CLOSE)
    explorer.page.close()


def test_both_figures_are_saved_as_a_picture(explorer: Explorer) -> None:
    with explorer.page.expect_download() as download:
        explorer.page.keyboard.press("p")
    assert download.value.suggested_filename == "surface.png"
    picture = Path(download.value.path()).read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(picture[16:20]) > 1000  # pixels across


def test_the_score_is_that_of_the_runtime(explorer: Explorer, model: SurfaceModel) -> None:
    scores = model.score(model.sample(1, seed=1))
    explorer.until("document.getElementById('score-verdict').className !== ''")
    shown = [float(text.removesuffix(" %")) for text in explorer.page.locator("#score td").all_inner_texts()]
    expected = [scores.misfit_percentile, scores.distance_percentile, scores.error_percentile]
    assert shown == pytest.approx([one.item() for one in expected], abs=0.2)
    assert explorer.text("score-verdict").startswith("like what the model learned")
    explorer.page.evaluate(
        "() => { const z = document.getElementById('z1'); z.max = z.value = 30; z.dispatchEvent(new Event('input')); }"
    )
    explorer.until_text("score-verdict", "unlike what the model learned")


def test_wild_quotes_are_said_above_all_and_beside_them(explorer: Explorer, model: SurfaceModel) -> None:
    explorer.page.fill("#quotes", wild_quotes(model))
    explorer.does("#complete")
    explorer.until("!document.getElementById('banner').hidden")
    assert explorer.text("banner").startswith("Warning: ")
    explorer.page.click("#reset")
    explorer.until("document.getElementById('banner').hidden")


def wild_quotes(model: SurfaceModel) -> str:
    """Points of a sample, one of them 20 vol points off."""
    vols = model.sample(1, seed=3)[0].astype(float)
    vols[1, 2] += 0.2
    points = zip(
        np.repeat(model.grid.tenors, vols.shape[1]), model.grid.log_moneyness.ravel(), vols.ravel(), strict=True
    )
    return "tenor_years,log_moneyness,iv\n" + "".join(f"{tenor},{k},{iv:.5f}\n" for tenor, k, iv in points)


def test_each_latent_says_what_it_does(explorer: Explorer, model: SurfaceModel) -> None:
    explorer.until(f"document.querySelectorAll('.strip button').length === {5 * model.latents}")
    assert all(text.startswith("up: ") for text in explorer.page.locator(".does").all_inner_texts())
    explorer.page.click("[aria-label='set z2 to 2']")
    explorer.until("document.getElementById('z2').value === '2'")


@pytest.mark.slow
def test_the_page_is_small(browser: Browser, server: Server) -> None:
    """At most 3 MB over the wire, and all that can be packed is."""
    page = browser.new_page()
    network, sizes = page.context.new_cdp_session(page), []
    network.send("Network.enable")
    network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(f"http://{server.address}/")
    page.wait_for_selector("main:not([hidden])")
    page.wait_for_load_state("networkidle")
    assert len(sizes) > 20
    assert sum(sizes) < 3e6
    page.close()


def test_files_are_packed_as_they_are_taken(server: Server) -> None:
    path = "/explorer/onnxruntime-web/ort-wasm-simd-threaded.wasm"
    whole = server.ask("GET", path)
    assert "content-encoding" not in whole.headers
    unpack = {"br": brotli.decompress, "gzip": gzip.decompress}
    for taken, encoding in (("gzip, deflate, br", "br"), ("gzip", "gzip"), ("br;q=0, gzip;q=0.5", "gzip")):
        answer = server.ask("GET", path, headers={"accept-encoding": taken})
        assert answer.headers["content-encoding"] == encoding
        assert answer.headers["content-type"] == "application/wasm"
        assert answer.headers["vary"] == "accept-encoding"
        assert unpack[encoding](answer.body) == whole.body
    for path in ("/", "/explorer/app.js", "/explorer/look.css", "/bundle/decoder.onnx", "/bundle/manifest.json"):
        packed = server.ask("GET", path, headers={"accept-encoding": "gzip"})
        assert gzip.decompress(packed.body) == server.ask("GET", path).body
    again = {
        "accept-encoding": "gzip",
        "if-none-match": server.ask("GET", "/", headers={"accept-encoding": "gzip"}).headers["etag"],
    }
    assert server.ask("GET", "/", headers=again).status == 304


@pytest.mark.slow
def test_dark_colors_follow_the_system(browser: Browser, server: Server) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        with browser.new_context(color_scheme=scheme) as context:
            explorer = Explorer(context, server.address).ready()
            grounds.append(explorer.page.evaluate("getComputedStyle(document.body).backgroundColor"))
            ink = explorer.page.evaluate("document.querySelector('#smiles text').getAttribute('fill')")
            assert ink == {"light": "#5b6773", "dark": "#9da7b3"}[scheme]
    assert grounds == ["rgb(255, 255, 255)", "rgb(13, 17, 23)"]
