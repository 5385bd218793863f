"""The explorer with a model that has a law of motion: completions from yesterday, and scenarios as fans."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from tests.deploy.browser import Explorer, chromium
from tests.deploy.serving import Server, serving
from vae.runtime import SurfaceModel

pytestmark = pytest.mark.slow

_QUOTES = {"iv": [0.21, 0.2], "tenor": [0.1, 0.4], "log_moneyness": [0.0, 0.05]}
_TEXT = "tenor_years,log_moneyness,iv\n0.1,0,0.21\n0.4,0.05,0.2\n"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def test_a_completion_starts_from_yesterday_and_the_next_from_it(
    browser: Browser, moving: Server, own: SurfaceModel
) -> None:
    explorer = Explorer(browser, moving.address).ready()
    explorer.page.fill("#quotes", _TEXT)
    explorer.page.check("#previous")
    explorer.page.fill("#return", "-0.01")
    first = own.complete(**_QUOTES, previous=own.state, elapsed=1.0, log_return=-0.01)
    np.testing.assert_allclose(explorer.does("#complete"), first.iv, atol=1e-6)
    (behind,) = [trace for trace in explorer.smiles() if trace["name"] == own.state.date.isoformat()]
    k = own.grid.log_moneyness[0]
    ends = 100 * own.state.iv[0, [0, -1]]
    np.testing.assert_allclose(np.array(behind["y"])[[0, -1]], ends, rtol=1e-5)
    assert behind["x"][0] == pytest.approx(k[0])
    explorer.until("location.hash.includes('since=')")
    again = Explorer(browser, moving.address + "/#" + explorer.page.url.partition("#")[2]).ready()
    again.until("document.getElementById('fit').textContent.includes('quotes used')")
    np.testing.assert_array_equal(again.surface(), explorer.surface())
    again.page.close()
    explorer.page.click("#next")
    assert first.state is not None
    assert explorer.text("known") == first.state.date.isoformat()
    second = own.complete(**_QUOTES, previous=first.state, elapsed=1.0, log_return=-0.01)
    np.testing.assert_allclose(explorer.does("#complete"), second.iv, atol=1e-6)
    explorer.page.click("#share")
    explorer.until_text("status", "an address cannot hold the state")
    assert explorer.faults == []
    explorer.page.close()


def test_scenarios_are_the_quantiles_of_the_runtime(browser: Browser, moving: Server, own: SurfaceModel) -> None:
    explorer = Explorer(browser, moving.address).ready()
    explorer.page.fill("#days", "3")
    explorer.page.select_option("#fan-of", "return")
    explorer.page.click("#draw-fan")
    explorer.until("document.getElementById('fan').data")
    outer, inner, median = explorer.page.evaluate("document.getElementById('fan').data")
    returns = 100 * np.expm1(own.scenarios(days=3, n=200, seed=1).log_return)
    expected = np.quantile(returns, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    found = [outer["low"], inner["low"], median["y"], inner["high"], outer["high"]]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    lacking = int((~own.scenarios(days=3, n=200, seed=1).arbitrage_free(own.grid)).sum())
    assert explorer.text("fan-text").endswith(f"; {lacking} of 600 surfaces have static arbitrage")
    explorer.until("location.hash.includes('fan=return')")
    again = Explorer(browser, moving.address + "/#" + explorer.page.url.partition("#")[2]).ready()
    again.until("document.getElementById('fan').data")
    assert again.page.evaluate("document.getElementById('fan').data") == [outer, inner, median]
    again.page.evaluate("location.hash = 'seed=5'")
    again.until("!document.getElementById('fan').data && !location.hash.includes('fan=')")
    assert again.faults == []
    again.page.close()
    explorer.page.fill("#days", "0")
    explorer.page.click("#draw-fan")
    explorer.until_text("fan-text", "allowed: 1 to 60")
    explorer.page.close()


def test_without_the_server_it_says_what_it_needs(browser: Browser, moving_bundle: Path, tmp_path: Path) -> None:
    with serving(moving_bundle, tmp_path) as server:
        explorer = Explorer(browser, server.address).ready()
    explorer.page.click("#draw-fan")
    explorer.until_text("fan-text", "the server does not answer")
    explorer.page.close()
