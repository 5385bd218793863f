"""The names of uvicorn, documented or not, on which connection.py and the workers stand."""

import ast
import asyncio
import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import uvicorn
from packaging.requirements import Requirement
from packaging.version import Version
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from deploy.server import connection, worker

_ROOT = Path(__file__).parents[3]


def borrowed() -> set[str]:
    """Attributes that our protocol reads, writes or calls and does not define: `cycle.response_complete`, ..."""
    source = ast.parse(inspect.getsource(connection._BoundedProtocol))
    found = {ast.unparse(node) for node in ast.walk(source) if isinstance(node, ast.Attribute)}
    chains = {name.removeprefix("self.") for name in found if name.startswith("self.")}
    supers = {name.removeprefix("super().") for name in found if name.startswith("super().")}
    own = {*vars(connection._BoundedProtocol), *connection._BoundedProtocol.__annotations__}
    return supers | {chain for chain in chains if chain.partition(".")[0] not in own}


async def in_a_request() -> HttpToolsProtocol:
    """uvicorn's own protocol after the head of a request."""
    config = uvicorn.Config(lambda *_: None, lifespan="off")
    found = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    found.connection_made(asyncio.Transport())
    found.data_received(b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n")
    return found


@pytest.fixture(scope="module")
def protocol() -> HttpToolsProtocol:
    return asyncio.run(in_a_request())


@pytest.mark.parametrize("chain", sorted(borrowed()))
def test_uvicorn_has_each_name_that_our_protocol_borrows(protocol: HttpToolsProtocol, chain: str) -> None:
    value: object = protocol
    for name in chain.split("."):
        assert hasattr(value, name), f"uvicorn {version('uvicorn')} has no {chain}"
        value = getattr(value, name)


def test_the_names_are_found_in_the_source() -> None:
    assert {"cycle.response_started", "flow.pause_reading", "connection_made", "timeout_keep_alive_task",
            "server_state.default_headers", "config.loaded_app"} < borrowed()  # fmt: skip


@pytest.mark.parametrize("name", sorted(name for name in vars(connection._BoundedProtocol) if not name.startswith("_")))
def test_uvicorn_has_each_method_that_our_protocol_overrides(name: str) -> None:
    """Uvicorn would not call a method of another name."""
    assert callable(getattr(HttpToolsProtocol, name))


def test_a_rejected_request_has_only_attributes_of_uvicorns_cycle(protocol: HttpToolsProtocol) -> None:
    async def answered() -> list[str]:
        return [name for name in dir(connection._RejectedCycle()) if not name.startswith("_")]

    names = asyncio.run(answered())
    assert names
    assert all(hasattr(protocol.cycle, name) for name in names)


def test_a_worker_overrides_the_main_loop_of_uvicorns_server() -> None:
    own = {name for name in vars(worker.Worker) if not name.startswith("_")}
    assert own == {"main_loop"} <= vars(uvicorn.Server).keys()


def test_one_minor_version_of_uvicorn_is_allowed() -> None:
    """Names without a promise may change with the next one."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    needed = {each.name: each.specifier for each in map(Requirement, project["optional-dependencies"]["serve"])}
    allowed = needed["uvicorn"]
    major, minor = Version(version("uvicorn")).release[:2]
    assert version("uvicorn") in allowed
    assert f"{major}.{minor}.99" in allowed
    assert f"{major}.{minor - 1}.99" not in allowed
    assert f"{major}.{minor + 1}.0" not in allowed
