"""The clients of examples/http get the bits that SurfaceModel gives in Python."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.serving import Server, serving
from tests.documents import ROOT
from vae.runtime import SurfaceModel

BUNDLE, CLIENTS = ROOT / "deploy/demo/bundle", ROOT / "examples/http"
BUILDS = {"client.cpp": ("c++", "-std=c++17", "-Wall", "-Werror"), "client.rs": ("rustc", "-Dwarnings")}
RUNNERS = {"client.py": sys.executable, "client.mjs": "node", "Client.java": "java"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(BUNDLE, tmp_path_factory.mktemp("clients")) as found:
        yield found


def command(client: str, folder: Path) -> list[str]:
    """The command that runs a client, which is built if it must be; without its tool the test is skipped."""
    source = str(CLIENTS / client)
    tool = BUILDS[client][0] if client in BUILDS else RUNNERS[client]
    if shutil.which(tool) is None:
        pytest.skip(f"{client} needs {tool}, which this machine does not have")
    if client not in BUILDS:
        return [tool, source]
    program = str(folder / "client")
    subprocess.run([*BUILDS[client], "-o", program, source], check=True, cwd=folder)
    return [program]


@pytest.mark.slow
@pytest.mark.parametrize("client", [*RUNNERS, *BUILDS])
def test_a_client_gets_the_same_bits_as_python(client: str, server: Server, tmp_path: Path) -> None:
    run = [*command(client, tmp_path), f"http://{server.address}", str(tmp_path / "vols")]
    found = subprocess.run(run, capture_output=True, text=True, check=False, timeout=120)
    assert (found.returncode, found.stderr) == (0, "")
    expected = SurfaceModel.load(BUNDLE, provider="cpu").sample(3, seed=7)
    assert tuple(map(int, found.stdout.split())) == expected.shape
    assert (tmp_path / "vols").read_bytes() == expected.astype("<f4").tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("client", ["client.py", "client.mjs"])
def test_a_client_of_no_server_fails(client: str, tmp_path: Path) -> None:
    run = [*command(client, tmp_path), "http://127.0.0.1:9", str(tmp_path / "vols")]
    assert subprocess.run(run, capture_output=True, check=False, timeout=60).returncode != 0
    assert not (tmp_path / "vols").exists()


@pytest.mark.slow
def test_the_question_of_excel_has_the_answer_that_it_reads(server: Server) -> None:
    """Excel does not run here: its question is sent, and each field that it reads is looked up in the answer."""
    query = (CLIENTS / "excel.pq").read_text("utf-8")
    (quotes,) = re.findall(r"Quotes = \[(.*)\]", query)
    body = {
        name: [float(a) / float(b or 1) for a, b in re.findall(r"(-?[\d.]+)(?: / (\d+))?", values)]
        for name, values in re.findall(r"(\w+) = \{(.*?)\}", quotes)
    }
    (route,) = re.findall(r'RelativePath = "(\w+)"', query)
    answer = server.ask("POST", f"/{route}", json.dumps(body), {"Content-Type": "application/json"})
    assert answer.status == 200
    found = answer.json()
    shape = len(found["grid"]["tenors"]), len(found["grid"]["nodes"])
    read = set(re.findall(r"Answer\[(\w+)\]", query))
    assert read == {"grid", "iv", "std"}
    assert {np.shape(found[name]) for name in read - {"grid"}} == {shape}
