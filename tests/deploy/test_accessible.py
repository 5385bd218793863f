"""No page has a finding of axe-core: in light and dark colors, on a wide screen and on a phone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from pipeline.cli.main import main
from pipeline.report.drift import Rule, Watched, drift_page
from tests.deploy.browser import Explorer, chromium, findings
from tests.deploy.serving import Server
from tests.workspace import Workspace
from vae.runtime import SurfaceModel

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("node")]

_QUOTES = "days,log_moneyness,iv\n182,-0.1,0.3\n182,0,0.28\n182,0.1,0.27\n"
_LOOKS = [pytest.param(width, scheme, id=f"{scheme}-{width}") for width in (1400, 390) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def completion(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a completion."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "quotes.csv").write_text(_QUOTES)
    options = ["--bundle", str(bundle), "-o", str(folder / "surface.csv"), "--plot"]
    main(["complete", str(folder / "quotes.csv"), *options], standalone_mode=False)
    return folder / "surface.html"


@pytest.fixture(scope="module")
def drift(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a drift, beside test dates."""
    folder = tmp_path_factory.mktemp("drift")
    model = SurfaceModel.load(finished.folder / "artifacts/bundle", provider="cpu")
    iv = np.concatenate([model.sample(30, seed=1), 1.5 * model.sample(10, seed=2)])
    scores = model.score(iv)
    test = Watched(model.score(model.sample(30, seed=3)), np.arange(20_000, 20_030))
    page = drift_page("volvae version 1", test, Watched(scores, np.arange(20_030, 20_070)), Rule(0.05, watched=True))
    (folder / "drift.html").write_text(page)
    return folder / "drift.html"


@pytest.fixture(scope="module")
def opened(browser: Browser, server: Server) -> Explorer:
    """The explorer with a surface that is kept and all columns of quotes named."""
    explorer = Explorer(browser, server.address).ready()
    explorer.page.click("#keep")
    explorer.page.click("summary")
    return explorer


@pytest.fixture(scope="module")
def read(browser: Browser, server: Server, finished: Workspace, completion: Path, drift: Path) -> dict[str, Page]:
    """Pages to read, by their addresses."""
    parts = {
        f"http://{server.address}/reference": "section",
        (finished.folder / "results/evaluate.html").as_uri(): "main",
        completion.as_uri(): "main",
        drift.as_uri(): "main",
    }
    found = {address: browser.new_page() for address in parts}
    for address, page in found.items():
        page.goto(address)
        page.wait_for_selector(parts[address])
    return found


def look(page: Page, width: int, scheme: str) -> None:
    """Show an open page on a screen of this width, in these colors."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})


@pytest.mark.parametrize(("width", "scheme"), _LOOKS)
def test_the_explorer_is_accessible(opened: Explorer, width: int, scheme: str) -> None:
    look(opened.page, width, scheme)
    opened.start_again()
    opened.page.fill("#quotes", _QUOTES)
    opened.does("#complete")
    opened.until_text("score-verdict", "model learned")
    assert findings(opened.page) == []
    opened.page.fill("#quotes", _QUOTES.replace("0.28", "many"))
    opened.page.click("#complete")
    opened.until_text("quote-table", "not a number")
    assert findings(opened.page) == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "scheme"), _LOOKS)
def test_pages_to_read_are_accessible(read: dict[str, Page], width: int, scheme: str) -> None:
    for address, page in read.items():
        look(page, width, scheme)
        assert findings(page) == [], address
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
