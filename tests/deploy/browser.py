"""A real Chromium without a screen, and the explorer in it."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

_AXE = Path(__file__).parents[1] / "javascript/node_modules/axe-core/axe.min.js"  # which the fixture node installs
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--no-sandbox",  # tests may run as root
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-gpu",  # pages draw on plain canvases, for which an emulated GPU takes twice as long
)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    program = next((found for name in _PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"none of {', '.join(_PROGRAMS)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        yield browser
        browser.close()


def findings(page: Page) -> list[str]:
    """Rules of axe-core that a page breaks, each with the elements that do."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE.read_text("utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [f"{one['id']}: {[node['html'][:200] for node in one['nodes']]}" for one in found]


class Explorer:
    """The page of a server.

    Attributes:
        page: of the browser.
        faults: what the browser complained of.
    """

    _DRAWN = "document.getElementById('surface').data"

    def __init__(
        self, browser: Browser | BrowserContext, address: str, *, width: int = 1400, height: int = 900
    ) -> None:
        """Open the page, of a browser in a window of this size, of a context in its own."""
        of_browser = isinstance(browser, Browser)
        self.page: Page = (
            browser.new_page(viewport={"width": width, "height": height}) if of_browser else browser.new_page()
        )
        self.page.set_default_timeout(180_000)  # milliseconds; drawing on the CPU shares it with other tests
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        self.page.goto(f"http://{address}" if "/" in address else f"http://{address}/")

    def ready(self) -> "Explorer":
        """Wait for the first surface."""
        self.page.wait_for_selector("main:not([hidden])")
        self.until(f"{self._DRAWN} && !document.getElementById('status').textContent")
        return self

    def start_again(self) -> None:
        """The first surface again, without quotes or messages."""
        self.page.click("#clear")
        for control, value in (("axis", "k"), ("quantity", "vol"), ("unit", "decimal")):
            self.page.select_option(f"#{control}", value)
        self.page.click("#reset")
        self.page.fill("#seed", "1")
        self.page.keyboard.press("Enter")
        self.until("document.getElementById('seed').value === '1' && !document.getElementById('status').textContent")
        self.until("Number(document.getElementById('z1').value) !== 0")
        self.page.evaluate("document.activeElement.blur()")

    def until(self, condition: str) -> None:
        """Wait for a condition in JavaScript."""
        self.page.wait_for_function(f"() => {condition}")  # a function: the page forbids text to become code

    def until_text(self, name: str, part: str) -> str:
        """The text of an element, once it contains this part."""
        self.until(f"document.getElementById({json.dumps(name)}).textContent.includes({json.dumps(part)})")
        return self.page.inner_text(f"#{name}")

    def does(self, action: str) -> np.ndarray:
        """The surface after a button was pressed (#id) or a key typed, which must lead to another one."""
        drawn = json.dumps(self._drawn())
        self.page.click(action) if action.startswith("#") else self.page.keyboard.press(action)
        self.until(f"JSON.stringify({self._DRAWN}) !== JSON.stringify({drawn})")
        return self.surface()

    def surface(self) -> np.ndarray:
        """The vols that are drawn, decimal."""
        return np.array(self._drawn())

    def smiles(self) -> list[dict[str, Any]]:
        """Traces of the figure of smiles."""
        return self.page.evaluate("document.getElementById('smiles').data")

    def front(self) -> dict[str, Any]:
        """The trace of the chosen smile."""
        (found,) = [trace for trace in self.smiles() if trace["kind"] == "line" and trace["width"] == 3]
        return found

    def text(self, name: str) -> str:
        return self.page.inner_text(f"#{name}")

    def latents(self) -> list[float]:
        values = self.page.eval_on_selector_all("#latents input", "all => all.map((one) => one.value)")
        return [float(value) for value in values]

    def seed(self) -> int:
        return int(self.page.input_value("#seed"))

    def imported(self, module: str, program: str, value: object) -> Any:
        """The value of a program, in which `m` is a module of the page."""
        load = f"const m = await import('/explorer/{module}')"
        return self.page.evaluate(f"async (value) => {{ {load}; return {program}; }}", value)

    def _drawn(self) -> list[list[float]]:
        return self.page.evaluate(f"{self._DRAWN}.map((row) => [...row])")
