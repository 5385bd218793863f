"""Clients of gRPC that are slow, silent, endless or many, frame by frame."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, Self

import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, TrailersReceived
from h2.settings import SettingCodes

from deploy.server import grpc_server
from deploy.server.limits import MAX_HEAD
from deploy.server.metrics import Metrics
from deploy.server.settings import Settings
from deploy.server.state import Service
from tests.services import free_port, wait_for

_QUEUE, _CONNECTIONS = 3, 10
_OK, _BUSY, _LATE = b"0", b"8", b"4"  # codes of gRPC


class Running(NamedTuple):
    """A server in a thread.

    Attributes:
        service: whose limits it keeps.
        port: on loopback.
        do: calls a function in its event loop.
    """

    service: Service
    port: int
    do: Callable[[Callable[[], object]], object]

    def live(self) -> bytes:
        """The answer to a new client that asks whether the server lives."""
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            return channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=30)


@contextlib.contextmanager
def running(counters: Metrics, **changes: object) -> Iterator[Running]:
    limits = {"queue": _QUEUE, "connections": _CONNECTIONS, "receive": 0.5, "deadline": 0.5, **changes}
    settings = Settings(Path("no bundle"), grpc_port=free_port(), **limits)
    loop, started = asyncio.new_event_loop(), threading.Event()
    ends: list[asyncio.Event] = []

    async def serve() -> None:
        service = Service(settings, SimpleNamespace(served=None), counters)
        found.append(service)
        ends.append(asyncio.Event())
        async with grpc_server.serving(service):
            started.set()
            await ends[0].wait()

    found: list[Service] = []
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait(30)
    try:
        yield Running(found[0], settings.grpc_port, loop.call_soon_threadsafe)
    finally:
        loop.call_soon_threadsafe(ends[0].set)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def strict(counters: Metrics) -> Iterator[Running]:
    """A server with small limits."""
    with running(counters) as found:
        yield found


class Client:
    """One connection of HTTP/2, whose frames the test chooses."""

    def __init__(self, port: int, *, window: int | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.frames = H2Connection(H2Configuration(client_side=True))
        self.frames.initiate_connection()
        if window is not None:
            self.frames.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.send()
        self.until(lambda _: bool(self.frames.remote_settings.max_concurrent_streams < 2**31))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self) -> None:
        self.socket.sendall(self.frames.data_to_send())

    def call(self, method: str, content: bytes | None, **metadata: str) -> int:
        """Begin a call; without content, its request stays away."""
        stream = self.frames.get_next_available_stream_id()
        head = {":method": "POST", ":scheme": "http", ":path": f"/inference.GRPCInferenceService/{method}"}
        head |= {":authority": "test", "content-type": "application/grpc", "te": "trailers", **metadata}
        self.frames.send_headers(stream, list(head.items()))
        if content is not None:
            self.request(stream, content)
        self.send()
        return stream

    def request(self, stream: int, content: bytes) -> None:
        self.frames.send_data(stream, b"\0" + len(content).to_bytes(4, "big") + content, end_stream=True)
        self.send()

    def until(self, holds: Callable[[list[Event]], bool]) -> list[Event]:
        """Read until this holds of all that has arrived.

        Raises:
            ConnectionError: the server ended the connection.
        """
        found: list[Event] = []
        while not holds(found):
            if not (part := self.socket.recv(65536)):
                raise ConnectionError("the server ended the connection")
            found += self.frames.receive_data(part)
            self.send()
        return found

    def statuses(self, *streams: int) -> list[bytes]:
        """How these calls end."""
        ended: set[int] = set()
        codes: dict[int, bytes] = {}

        def all_ended(events: list[Event]) -> bool:
            ended.update(event.stream_id for event in events if isinstance(event, StreamEnded))
            return ended >= set(streams)

        for event in self.until(all_ended):
            if isinstance(event, ResponseReceived | TrailersReceived):
                codes[event.stream_id] = dict(event.headers).get(b"grpc-status", b"")
        return [codes[stream] for stream in streams]


def test_a_connection_that_says_nothing_is_ended(strict: Running) -> None:
    with socket.create_connection(("127.0.0.1", strict.port), timeout=30) as silent:
        while silent.recv(65536):  # the settings of the server
            pass


def test_without_a_token_no_page_of_another_site_is_answered(strict: Running) -> None:
    """Through a proxy; by itself a browser speaks HTTP/1.1 to this port, which nobody answers."""
    allowed, denied = (
        str(grpc.StatusCode.OK.value[0]).encode(),
        str(grpc.StatusCode.PERMISSION_DENIED.value[0]).encode(),
    )
    with Client(strict.port) as client:
        calls = [
            client.call("ServerLive", b"", **head)
            for head in ({}, {"sec-fetch-site": "cross-site"}, {"origin": "http://evil.example"})
        ]
        assert client.statuses(*calls) == [allowed, denied, denied]
    with socket.create_connection(("127.0.0.1", strict.port), timeout=30) as browser:
        browser.sendall(b"POST /inference.GRPCInferenceService/ServerLive HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        answer = b"".join(iter(lambda: browser.recv(4096), b""))
    assert b"HTTP/1.1" not in answer


@pytest.mark.slow
def test_requests_that_do_not_arrive_give_their_places_back_and_probes_need_none(counters: Metrics) -> None:
    """They have four seconds, so that a busy machine has the time to look at the full queue."""
    with running(counters, receive=4.0) as server, Client(server.port) as slow, Client(server.port) as other:
        held = [slow.call("ModelInfer", None) for _ in range(_QUEUE)]
        wait_for(lambda: server.service.limits.admission.full, seconds=10, what="the queue")
        assert other.statuses(other.call("ServerMetadata", b"")) == [_BUSY]
        assert other.statuses(other.call("ServerLive", None), other.call("ServerReady", b"")) == [_OK, _OK]
        assert server.live()
        assert slow.statuses(*held) == [_LATE] * _QUEUE
        assert server.service.limits.admission.count == 0
        assert other.statuses(other.call("ServerMetadata", b"")) == [_OK]


def test_answers_that_nobody_takes_fill_a_memory_of_their_own(counters: Metrics) -> None:
    """Calls are refused then, probes are not; all is well again when the reader's connection has ended."""
    size = 2 * grpc_server._HEAD  # bytes that one unread answer is counted as, at most
    with (
        running(counters, max_answer=size) as server,
        Client(server.port, window=0) as reader,
        Client(server.port) as other,
    ):
        unread = 0
        while other.statuses(other.call("ServerMetadata", b"")) == [_OK]:
            reader.call("ServerMetadata", b"")
            reader.until(lambda events: any(isinstance(event, ResponseReceived) for event in events))
            unread += 1
        assert 4 <= unread <= 1 + 4 * size // grpc_server._HEAD
        assert server.live()
        reader.socket.close()
        wait_for(lambda: other.statuses(other.call("ServerMetadata", b"")) == [_OK], seconds=10, what="memory")


def test_a_slow_reader_gets_its_answer_and_the_status(counters: Metrics) -> None:
    """He takes it a few bytes at a time, and begins after the deadline of calls."""
    with (
        running(counters, deadline=0.1) as server,
        Client(server.port, window=0) as reader,
        Client(server.port) as other,
    ):
        stream = reader.call("ServerMetadata", b"")
        reader.until(lambda events: any(isinstance(event, ResponseReceived) for event in events))
        assert other.statuses(other.call("ServerMetadata", None)) == [_LATE]  # half a second later
        taken = bytearray()
        while b"volvae" not in taken:
            reader.frames.increment_flow_control_window(4, stream)
            reader.send()
            events = reader.until(lambda events: any(isinstance(event, DataReceived) for event in events))
            taken += b"".join(event.data for event in events if isinstance(event, DataReceived))
        reader.frames.increment_flow_control_window(65536, stream)
        reader.send()
        assert reader.statuses(stream) == [_OK]


def test_an_answer_that_nobody_takes_ends_with_its_connection(
    counters: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(grpc_server, "_AGE", 0.5)
    monkeypatch.setattr(counters, "answered", lambda _route, status, _seconds: statuses.append(status))
    with running(counters, receive=0.2, deadline=0.1) as server, Client(server.port, window=0) as reader:
        reader.call("ServerMetadata", b"")
        while reader.socket.recv(65536):  # which ends
            pass
        wait_for(lambda: statuses == [grpc_server._GONE], seconds=10, what="the end of the call")


def test_metadata_are_as_large_as_a_head_over_http(strict: Running) -> None:
    half = {f"x-{number}": f"{number}" * (MAX_HEAD // 16) for number in range(8)}
    more = {f"y-{number}": f"{number}" * (MAX_HEAD // 16) for number in range(8)}
    with Client(strict.port) as client:
        assert client.statuses(client.call("ServerLive", b"", **half)) == [_OK]
        assert client.statuses(client.call("ServerLive", b"", **half, **more)) == [_BUSY]
        assert client.statuses(client.call("ServerLive", b"")) == [_OK]


def test_calls_that_are_reset_at_once_leave_nothing(strict: Running) -> None:
    """As in CVE-2023-44487, a thousand of them."""
    with Client(strict.port) as client:
        for _ in range(1000):
            client.frames.reset_stream(client.call("ModelInfer", None))
        client.send()
        assert strict.live()
        wait_for(lambda: strict.service.limits.admission.count == 0, seconds=10, what="the queue")


def test_connections_beyond_the_limit_are_ended_and_a_place_is_given_back(counters: Metrics) -> None:
    with running(counters, receive=60.0) as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        held = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(_CONNECTIONS)]
        assert all(one.recv(1) for one in held)
        with socket.create_connection(address, timeout=30) as further, contextlib.suppress(ConnectionResetError):
            assert further.recv(1) == b""
        held[0].close()

        def answers() -> bool:
            with contextlib.suppress(grpc.RpcError):
                return bool(server.live())
            return False

        wait_for(answers, seconds=10, what="a place")


def test_a_call_in_flight_ends_in_order_and_no_other_begins(counters: Metrics) -> None:
    arrives = threading.Event()

    def request() -> Iterator[bytes]:
        arrives.wait(30)
        yield b""

    with (
        running(counters, receive=30.0) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        answer = channel.stream_unary("/inference.GRPCInferenceService/ServerMetadata").future(request(), timeout=30)
        wait_for(lambda: server.service.limits.admission.count == 1, seconds=10, what="the call")
        server.do(server.service.stopping.set)

        def refused() -> bool:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", server.port)):
                return False
            return True

        wait_for(refused, seconds=10, what="the end of listening")
        arrives.set()
        assert b"volvae" in answer.result()
