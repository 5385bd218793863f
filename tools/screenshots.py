"""Pictures of the explorer for docs/: wide, dark and on a phone, with the sample chain completed (`make screenshots`).

They need Chromium, and show the demo's bundle, so that everyone makes the same ones.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Browser, sync_playwright

_ROOT = Path(__file__).parents[1]
_DEMO = _ROOT / "deploy/demo"
_ADDRESS = "http://127.0.0.1:8765"
_YESTERDAY, _TODAY = "2026-03-02", "2026-03-03"
_TRIES = 600  # of a tenth of a second
_DRAWN = "() => document.getElementById('fit').textContent.includes('quotes used')"
_JUDGED = "() => document.getElementById('score-verdict').className && document.querySelector('.strip button')"


def main() -> None:
    """Serve the demo and take the pictures."""
    program = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
    if program is None:
        sys.exit("screenshots: chromium is not installed")
    with _served(), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        _picture(browser, "explorer.png", 1400, "light")
        _picture(browser, "explorer-dark.png", 1400, "dark")
        _picture(browser, "explorer-narrow.png", 390, "light")
        browser.close()


def _picture(browser: Browser, name: str, width: int, scheme: Literal["light", "dark"]) -> None:
    """Complete the chains of two dates, the first kept behind the second, and write the whole page."""
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(_ADDRESS)
        page.wait_for_function("() => document.getElementById('surface')?.data")
        page.select_option("#axis", "strike")
        for date, keep in ((_YESTERDAY, True), (_TODAY, False)):
            page.click("#clear")
            page.fill("#quotes", _chain(date))
            page.click("#complete")
            page.wait_for_function(_DRAWN)
            if keep:
                page.click("#keep")
        page.locator("#tenor").fill("3")
        page.wait_for_function(_JUDGED)
        page.screenshot(path=_ROOT / "docs" / name, full_page=True)


def _chain(date: str) -> str:
    """The sample chain of one date, in strikes with bid and ask."""
    header, *rows = (_DEMO / "quotes/chain.csv").read_text("utf-8").splitlines()
    return "\n".join([header, *(row for row in rows if row.startswith(date))])


@contextmanager
def _served() -> Iterator[None]:
    """The demo's bundle, served."""
    volvae = [sys.executable, "-c", "from pipeline.cli.main import main; main()"]
    options = ["--model", str(_DEMO / "bundle"), "--port", _ADDRESS.rpartition(":")[2]]
    command = [*volvae, "serve", *options]
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, cwd=_ROOT, stderr=log, stdout=log) as server:
        try:
            _wait(server)
            yield
        finally:
            server.terminate()


def _wait(server: subprocess.Popen[bytes]) -> None:
    """Until the server answers."""
    for _ in range(_TRIES):
        try:
            urlopen(f"{_ADDRESS}/v2/health/ready").close()  # noqa: S310
        except (URLError, ConnectionError):
            try:
                server.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            sys.exit("screenshots: the server ended")
        else:
            return
    sys.exit("screenshots: the server does not answer")


if __name__ == "__main__":
    main()
