"""The model card of what is served: found near the bundle, handed out by the server, read in the explorer."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.server import model_card
from tests.deploy.browser import Explorer, chromium, findings
from tests.deploy.serving import Server, serving
from vae.bundle import read_manifest

_CARD = """\
---
library_name: volvae
---

# volvae version 1

Accepted by the gate: **all** 5 checks passed, of `volvae lineage 1`.

## Factors

- tenors to 364 days
- markets: not told apart

| figure | value |
|---|---|
| ELBO <b>nats</b> | 5,707.9 |

```python
model = SurfaceModel.load("bundle")

drawn = model.sample(1000, seed=7)
```

Its weights have the sha256
`{weights}`.
"""


def project(folder: Path, bundle: Path) -> Path:
    """A project with this bundle and its card; the bundle's folder."""
    (folder / "results").mkdir(parents=True)
    found = folder / "artifacts/bundle"
    shutil.copytree(bundle, found)
    weights = read_manifest(bundle)["weights_sha256"]
    (folder / "results/model_card.md").write_text(_CARD.replace("{weights}", weights))
    return found


def test_a_card_is_of_the_weights_that_it_names(linear_bundle: Path, tmp_path: Path) -> None:
    folder = project(tmp_path, linear_bundle)
    manifest = read_manifest(folder)
    assert b"# volvae version 1" in (model_card.read(folder, manifest) or b"")
    assert model_card.read(folder, {**manifest, "weights_sha256": "0" * 64}) is None
    other = folder.rename(tmp_path / "elsewhere") / "bundle"  # of no project: anybody may have written that card
    shutil.copytree(linear_bundle, other)
    assert model_card.read(other, manifest) is None
    shutil.copytree(linear_bundle, folder)
    (tmp_path / "results/model_card.md").rename(tmp_path / "artifacts/bundle.md")  # as the link to an alias leaves it
    assert model_card.read(folder, manifest) is not None
    (tmp_path / "artifacts/bundle.md").unlink()
    assert model_card.read(folder, manifest) is None


@pytest.fixture(scope="module")
def registered(linear_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a bundle with a card."""
    folder = tmp_path_factory.mktemp("registered")
    with serving(project(folder, linear_bundle), folder) as found:
        yield found


@pytest.mark.slow
def test_the_server_hands_out_the_card(registered: Server, server: Server) -> None:
    answer = registered.ask("GET", "/bundle/model_card.md")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/markdown; charset=utf-8")
    assert answer.headers["volvae-model-version"] == registered.version()
    assert b"# volvae version 1" in answer.body
    assert registered.ask("GET", "/bundle/manifest.json").headers["volvae-model-card"] == "model_card.md"
    assert "volvae-model-card" not in server.ask("GET", "/bundle/manifest.json").headers
    missing = server.ask("GET", "/bundle/model_card.md")
    assert (missing.status, missing.json()["error"].partition(":")[0]) == (404, "this bundle has no model card")


@pytest.mark.slow
@pytest.mark.usefixtures("node")
def test_the_explorer_shows_the_card(registered: Server, linear_bundle: Path) -> None:
    with chromium() as browser:
        for width, scheme in ((1400, "light"), (390, "dark")):
            with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}) as context:
                page = Explorer(context, registered.address).ready().page
                page.click("#show-card")
                page.wait_for_selector("#card[open]")
                assert findings(page) == []
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                read = page.evaluate(
                    "[...document.querySelectorAll('#card-text > *')].map((one) => [one.tagName, one.innerText])"
                )
                assert read == [
                    ["H2", "volvae version 1"],
                    ["P", "Accepted by the gate: all 5 checks passed, of volvae lineage 1."],
                    ["H3", "Factors"],
                    ["UL", "tenors to 364 days\nmarkets: not told apart"],
                    ["DIV", "figure\tvalue\nELBO <b>nats</b>\t5,707.9"],
                    ["PRE", 'model = SurfaceModel.load("bundle")\n\ndrawn = model.sample(1000, seed=7)'],
                    ["P", f"Its weights have the sha256 {read_manifest(linear_bundle)['weights_sha256']}."],
                ]
                assert page.inner_text("#card-text strong") == "all"
                page.keyboard.press("s")  # which draws a sample where the card is closed
                page.keyboard.press("Escape")
                page.wait_for_selector("#card", state="hidden")
                assert page.input_value("#seed") == "1"
