"""Requests of pages of other sites are refused, and each answer has the headers that browsers need."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.deploy.serving import Server, ask, serving

_ANSWERS = (
    "/v2",
    "/metrics",
    "/openapi.json",
    "/bundle/manifest.json",
    "/bundle/model_card.md",
    "/bundle/decoder.onnx",
    "/nothing",
    "/bundle/x",
)
_PAGES = ("/", "/reference", "/explorer/index.html", "/explorer/reference.html")
_CODE = (
    "/explorer/app.js",
    "/explorer/reference.js",
    "/explorer/onnxruntime-web/ort-wasm-simd-threaded.wasm",
    "/explorer/plausible.json",
)


@pytest.fixture(scope="module")
def named(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a token that has a name."""
    with serving(bundle, tmp_path_factory.mktemp("named"), "--hosts", "Vols.example, other") as server:
        yield server


def status(server: Server, method: str, path: str, headers: dict[str, str]) -> int:
    return server.ask(method, path, "{}" if method == "POST" else None, headers).status


@pytest.mark.parametrize("path", ["/bundle/decoder.onnx", "/metrics", "/", "/v2/health/ready", "/nothing"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", "[x]", "a b"]
)
def test_a_name_that_is_pointed_at_the_server_reads_nothing(named: Server, path: str, host: str) -> None:
    answer = named.ask("GET", path, headers={"host": host})
    assert answer.status == 421
    assert "--hosts names what it is called" in answer.json()["error"]


def test_addresses_this_machine_and_its_names_are_answered(named: Server) -> None:
    for host in ("127.0.0.1", "10.1.2.3:8000", "[::1]:8000", "localhost", "LOCALHOST:1", "vols.example", "other:80"):
        assert status(named, "GET", "/v2", {"host": host}) == 200, host


_OTHERS = (
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
)


@pytest.mark.parametrize("headers", _OTHERS)
def test_a_page_of_another_site_has_nothing_computed(named: Server, headers: dict[str, str]) -> None:
    for path in ("/sample", "/complete", "/v2/models/decoder/infer"):
        assert status(named, "POST", path, headers | {"content-type": "text/plain"}) == 403


def test_pages_of_the_server_and_programs_are_answered(named: Server) -> None:
    for headers in (
        {},
        {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1"},
        {"sec-fetch-site": "none"},
        {"origin": f"http://127.0.0.1:{named.port}", "host": f"127.0.0.1:{named.port}"},
    ):
        assert status(named, "POST", "/sample", headers) == 200, headers


@pytest.mark.slow
def test_with_a_token_every_name_will_do(bundle: Path, tmp_path: Path) -> None:
    """No page knows the token, and a proxy may call the server by any name."""
    with serving(bundle, tmp_path, environment={"VOLVAE_TOKEN": "secret"}) as server:
        bearing = {"authorization": "Bearer secret", "host": "any.example", "sec-fetch-site": "cross-site"}
        assert status(server, "POST", "/sample", bearing) == 200
        assert status(server, "POST", "/sample", {"host": "localhost"}) == 401


@pytest.mark.parametrize("path", [*_ANSWERS, *_PAGES, *_CODE])
def test_every_answer_says_what_a_browser_may_do_with_it(named: Server, path: str) -> None:
    found = named.ask("GET", path).headers
    assert found["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in found["content-security-policy"]
    assert found["cache-control"] == ("no-cache" if path in _CODE else "no-store")
    assert ("default-src 'none'" in found["content-security-policy"]) == (path in _ANSWERS)
    assert "script-src 'unsafe" not in found["content-security-policy"]


def test_refusals_and_inferences_say_it_too(named: Server) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", named.port, timeout=30)) as connection:
        sent = {"inputs": [{"name": "z", "shape": [1, 3], "datatype": "FP32", "data": [0, 0, 0]}]}
        answers = [
            ask(connection, "POST", "/v2/models/decoder/infer", json.dumps(sent)),
            ask(connection, "POST", "/score", "["),
        ]
        answers.append(ask(connection, "GET", "/" + "x" * 70_000))  # by the connection, not the application
    assert [answer.status for answer in answers] == [200, 400, 400]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_pages_have_no_code_of_their_own(root: Path) -> None:
    """Their policy lets the files of the package run, and nothing that is written into a page."""
    for page in (root / "deploy/explorer").glob("*.html"):
        text = page.read_text()
        assert text.count("<script") == text.count("<script src=")
        assert " on" not in "".join(part.partition(">")[0] for part in text.split("<")[1:])
