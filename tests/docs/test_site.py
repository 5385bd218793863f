"""The site: built offline without a warning; no link of it is dead, and nothing in it comes from elsewhere."""

import importlib.util
import json
import os
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from tests import programs
from tests.deploy.browser import chromium, findings
from tests.pipeline.settings.test_documented import CHAIN, CURRENCIES, INDEX, PATHS, WHOLE, changed
from tools import params_schema

ROOT = Path(__file__).parents[2]
PARAMS = (ROOT / "params.yaml").read_text("utf-8")


def site_module(name: str) -> ModuleType:
    """A module of docs/site, which is no package as Sphinx finds its extensions by their names."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / f"docs/site/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gallery, settings = site_module("gallery"), site_module("settings")


def build(source: Path, work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    paths = ["-c", str(ROOT / "docs/site"), "-d", str(work / "doctrees"), str(source), str(work / "site")]
    command = ["python", "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", *options, *paths]
    return programs.run(command, os.environ, cwd=ROOT)


class Page(HTMLParser):
    """Links, anchors and sources of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.anchors.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if "src" in given or (tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload")):
            self.loaded.append(given.get("src", given.get("href", "")))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, whose build runs all scripts of the gallery."""
    folder = tmp_path_factory.mktemp("site")
    found = build(ROOT, folder)
    assert found.returncode == 0, found.stderr
    assert not found.stderr, found.stderr
    return folder / "site"


@pytest.mark.slow
def test_its_links_and_pictures_are_there(site: Path) -> None:
    """Links and anchors are looked up in the pages that the build wrote."""
    pages = {path: Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    for path, page in pages.items():
        assert not [source for source in page.loaded if urlsplit(source).netloc], path
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), f"{path}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors, f"{path}: {link}"

    scripts = gallery.scripts()
    assert len(scripts) >= 12
    for script in scripts:
        page = pages[site / f"examples/gallery/{script.stem}.html"]
        assert [Path(source).stem for source in page.loaded if source.endswith(".svg")] == [
            f"{script.stem}-light",
            f"{script.stem}-dark",
        ]
    text = (site / "docs/reference/settings.html").read_text("utf-8")
    names = {name.partition(".")[2] for name in params_schema.comments(PARAMS) if "." in name}
    assert {name for name in names if f">{name}<" not in text} == set()
    assert "<math" in (site / "docs/mathematics.html").read_text("utf-8")


_OF_EACH_KIND = (
    "docs/index",
    "docs/tutorials/scenarios",
    "docs/howto",
    "docs/method",
    "docs/reference/runtime",
    "docs/decisions/0001-folders-by-imports",
    "examples/gallery/wild_quote",
    "search",
)


@pytest.mark.slow
@pytest.mark.usefixtures("node")
def test_a_page_of_each_kind_is_accessible(site: Path) -> None:
    """On a wide screen in light colours, and on a phone in dark ones."""
    with chromium() as browser:
        for width, scheme in ((1280, "light"), (390, "dark")):
            with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}) as context:
                page = context.new_page()
                for name in _OF_EACH_KIND:
                    page.goto((site / f"{name}.html").as_uri())
                    assert findings(page) == [], name
                    assert page.evaluate("document.documentElement.scrollWidth") <= width, name


@pytest.mark.slow
def test_a_dead_link_fails_the_build(tmp_path: Path) -> None:
    """Each is named, and a link that is not dead is not."""
    (tmp_path / "docs").mkdir()
    links = ("missing.md", "index.md#gone", "index.md#title")
    (tmp_path / "docs/index.md").write_text("# Title\n\n" + "\n".join(f"[a link]({link})\n" for link in links))
    found = build(tmp_path, tmp_path, "-D", "extensions=myst_parser", "-D", "html_math_renderer=mathjax")
    assert found.returncode == 1
    assert re.findall(r"'([^']*)' \[myst\.xref_missing\]", found.stderr) == ["missing.md", "gone"], found.stderr


def luminance(colour: str) -> float:
    """Relative luminance: Web Content Accessibility Guidelines 2.2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_curves_and_labels_stand_out_on_both_papers() -> None:
    """Success criteria 1.4.3 and 1.4.11, on the backgrounds of the theme."""
    ink, faint, _, *curves = gallery._COLOURS.items()
    for place, paper in enumerate(("#ffffff", "#131416")):
        assert contrast(ink[place], paper) > 4.5
        assert min(contrast(each[place], paper) for each in (faint, *curves)) > 3.0


def test_a_picture_for_dark_paper_has_no_colour_of_the_light_one() -> None:
    light = "".join(f"<path style='stroke: {colour}'/>" for colour in gallery._COLOURS)
    assert re.findall(r"#\w{6}", gallery.dark(light)) == list(gallery._COLOURS.values())


def test_a_script_is_read_as_title_text_and_code() -> None:
    page = gallery.read('"""A title.\n\nText.\n"""\n\nimport numpy as np\n\nx = 1\n')
    assert page == gallery.Page("A title", "Text.", "import numpy as np\n\nx = 1")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "integer", "minimum": 1}, "whole number at least 1"),
        ({"type": "number", "exclusiveMinimum": 0.0, "maximum": 50.0}, "number above 0 and at most 50"),
        ({"enum": ["none", "log"]}, "`none`, `log`"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "`true`, `false` or `null`"),
        ({"type": "array", "items": {"type": "string"}}, "a list, each text"),
    ],
)
def test_a_type_is_said_in_words(part: dict[str, Any], words: str) -> None:
    assert settings.allowed(part, {}) == words


SCHEMA = Draft202012Validator(json.loads((ROOT / "params.schema.json").read_text("utf-8")))


def test_the_schema_is_that_of_the_settings() -> None:
    assert params_schema.text(ROOT / "params.yaml") == (ROOT / "params.schema.json").read_text("utf-8")
    assert PARAMS.startswith("# yaml-language-server: $schema=params.schema.json\n")


def test_an_editor_accepts_the_settings_and_the_examples_of_the_documents() -> None:
    project = YAML(typ="safe").load(PARAMS)
    assert SCHEMA.is_valid(project)
    for example in (CURRENCIES, INDEX, CHAIN, PATHS):
        SCHEMA.validate(changed(project, example, WHOLE))


@pytest.mark.parametrize(
    ("block", "key", "value"), [("train", "epoks", 3), ("train", "epochs", 0), ("export", "fp16", "yes")]
)
def test_an_editor_marks_wrong_settings(block: str, key: str, value: object) -> None:
    project = YAML(typ="safe").load(PARAMS)
    project[block][key] = value
    assert not SCHEMA.is_valid(project)


def test_each_key_of_the_settings_has_its_comment_in_the_schema() -> None:
    found = params_schema.schema(PARAMS)
    model = found["$defs"]["ModelParams"]["properties"]
    assert model["latents"]["description"] == "size of z: as many as Heston has parameters"
    assert found["$defs"]["HestonPrepare"]["properties"]["quote_noise_bp"]["description"].startswith(
        "standard deviation"
    )
