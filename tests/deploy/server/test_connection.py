"""Clients that are slow, endless or too large, over plain sockets."""

import asyncio
import contextlib
import gzip
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from deploy.server.connection import bounded_protocol
from deploy.server.limits import Limits
from deploy.server.settings import Settings
from tests.deploy.serving import Server, serving
from tests.services import wait_for

_MOST_BODY = 100_000
_LARGE = 300_000  # samples, which are more than the system's buffers take
_SECONDS = 1.0  # in which a request must arrive
_CONNECTIONS, _QUEUE = 20, 5
_INFER = "/v2/models/decoder/infer"


@pytest.fixture(scope="module")
def strict(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small limits."""
    limits = ("--max-body", _MOST_BODY, "--receive", _SECONDS, "--max-answer", 50_000_000, "--max-json", 20_000,
              "--connections", _CONNECTIONS, "--queue", _QUEUE, "--max-count", _LARGE)  # fmt: skip
    with serving(bundle, tmp_path_factory.mktemp("strict"), *map(str, limits)) as server:
        yield server


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        yield connection


def head(path: str = _INFER, **headers: object) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: localhost", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def everything(connection: socket.socket) -> bytes:
    """All data until the server closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def is_well(server: Server) -> bool:
    return server.ask("GET", "/v2/health/ready").status == 200


def samples_answered(server: Server) -> float:
    """How many requests for samples have ended."""
    counts = server.metrics().items()
    return sum(n for (name, *labels), n in counts if name.endswith("seconds_count") and ("route", "sample") in labels)


def queue_is_empty(server: Server) -> bool:
    return server.metrics()["volvae_queue",] == 0


def test_a_declared_body_that_is_too_large_is_refused_unread(strict: Server) -> None:
    with connected(strict) as connection:
        connection.sendall(head(content_length=2 * 2**30))
        answer = connection.recv(65536)
    assert status(answer) == 413
    assert f"allowed: {_MOST_BODY} bytes" in answer.decode()
    assert is_well(strict)


def test_a_client_that_expects_100_continue_is_refused_before_it_sends(strict: Server) -> None:
    with connected(strict) as connection:
        connection.sendall(head(content_length=2 * 2**30, expect="100-continue"))
        assert status(connection.recv(65536)) == 413


def test_chunks_without_end_are_refused_and_the_connection_ends(strict: Server) -> None:
    chunk = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
    with connected(strict) as connection:
        connection.sendall(head(transfer_encoding="chunked"))
        sent, start = 0, time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < start + 20 * _SECONDS:
                connection.sendall(chunk)
                sent += len(chunk)
        took = time.monotonic() - start
        answer = everything(connection)
    assert took < 10 * _SECONDS
    assert sent > _MOST_BODY
    assert answer == b"" or status(answer) == 413  # a reset may overtake the answer
    assert is_well(strict)


def test_chunks_within_the_limit_are_read(strict: Server) -> None:
    body = json.dumps({"count": 1, "seed": 1}).encode()
    with connected(strict) as connection:
        connection.sendall(head("/sample", transfer_encoding="chunked", connection="close"))
        for byte in body:
            connection.sendall(b"1\r\n" + bytes([byte]) + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert status(everything(connection)) == 200


def test_a_request_that_does_not_arrive_in_time_is_refused(strict: Server) -> None:
    """None of it, half a line, its head and half of its body, each on a connection of its own."""
    whole = head("/sample", content_length=50)
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        connections = {
            start: stack.enter_context(connected(strict)) for start in (b"", whole[:16], whole, whole + b"{")
        }
        for start, connection in connections.items():
            connection.sendall(start)
        answers = {start: everything(connection) for start, connection in connections.items()}
    assert _SECONDS * 0.9 < time.monotonic() - begin < 10 * _SECONDS
    for start, answer in answers.items():
        assert status(answer) == 408, start
        assert answer.endswith(b'{"error":"the request did not arrive in time"}'), start


def test_a_byte_now_and_then_does_not_buy_time(strict: Server) -> None:
    with connected(strict) as connection:
        begin = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < begin + 20 * _SECONDS:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - begin < 10 * _SECONDS


@pytest.mark.parametrize("at_once", [False, True], ids=["later", "in one packet"])
def test_a_second_request_must_arrive_in_time_too(strict: Server, *, at_once: bool) -> None:
    whole, half = head("/sample", content_length=2) + b"{}", b"POST /sample HTTP/1.1\r\nx-half: "
    with connected(strict) as connection:
        begin = time.monotonic()
        connection.sendall(whole + half if at_once else whole)
        found = connection.recv(65536)
        assert status(found) == 200
        if not at_once:
            connection.sendall(half)
        found += everything(connection)
    assert time.monotonic() - begin < 10 * _SECONDS
    assert found.endswith(b'{"error":"the request did not arrive in time"}')


def test_line_ends_between_requests_do_not_keep_a_connection(strict: Server) -> None:
    with connected(strict) as connection:
        connection.sendall(head("/sample", content_length=2) + b"{}")
        assert status(connection.recv(65536)) == 200
        begin = time.monotonic()
        connection.sendall(b"\r\n")
        everything(connection)
    assert time.monotonic() - begin < 10 * _SECONDS


def test_a_head_without_end_is_refused(strict: Server) -> None:
    with connected(strict) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET / HTTP/1.1\r\nx-long: " + b"x" * 400_000)
        answer = everything(connection)
    assert answer == b"" or status(answer) == 431
    assert is_well(strict)


def test_several_requests_in_one_packet_are_answered_in_order(strict: Server) -> None:
    requests = [head("/sample", content_length=len(body)) + body for body in (b'{"seed": 1}', b'{"seed": 2}')]
    large = head("/sample", content_length=_MOST_BODY - 10) + b" " * (_MOST_BODY - 10)
    with connected(strict) as connection:
        connection.sendall(large + b"".join(requests) + b"GET /v2 HTTP/1.1\r\nconnection: close\r\n\r\n")
        answers = everything(connection).split(b"HTTP/1.1 ")[1:]
    assert [int(answer[:3]) for answer in answers] == [413, 200, 200, 200]  # too much JSON, and then the others
    assert [b"volvae-seed: %d" % seed in answer for seed, answer in enumerate(answers)] == [False, True, True, False]


def test_compressed_bodies_are_refused(strict: Server) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    for encoding in ("gzip", "deflate", "br"):
        answer = strict.ask("POST", "/sample", bomb, {"content-encoding": encoding})
        assert answer.status == 415
        assert answer.json() == {"error": "a body must not be compressed"}
    assert strict.ask("POST", "/sample", b"{}", {"content-encoding": "identity"}).status == 200


def test_json_has_a_limit_of_its_own_in_both_directions(strict: Server) -> None:
    answer = strict.ask("POST", "/score", b" " * 20_001)
    assert answer.status == 413
    assert answer.json() == {"error": "JSON has at most 20000 bytes here; send tensors in binary"}
    answer = strict.ask("POST", "/sample", json.dumps({"count": 800}))
    assert answer.status == 400
    assert "in JSON 20000 are allowed, ask for less or in binary" in answer.json()["error"]
    answer = strict.ask("POST", "/sample", json.dumps({"count": 800}), {"accept": "application/octet-stream"})
    assert answer.status == 200


@contextlib.contextmanager
def leaving(server: Server, body: bytes) -> Iterator[None]:
    """A client that is gone after the start of its answer."""
    with connected(server) as connection:
        connection.sendall(head("/sample", content_length=len(body), accept="application/octet-stream") + body)
        assert status(connection.recv(4096)) == 200
        yield


def test_a_reader_that_stops_is_cut_off(strict: Server) -> None:
    """Its answer is larger than what the system's buffers take, so that only the cut ends it."""
    before = samples_answered(strict)
    with leaving(strict, b'{"count": %d}' % _LARGE):
        assert is_well(strict)
        assert samples_answered(strict) == before
        wait_for(lambda: samples_answered(strict) == before + 1, seconds=20 * _SECONDS, what="the end of the answer")


class Full(asyncio.Transport):
    """A transport whose reader takes nothing of the last bytes, which are too few to pause its protocol."""

    def __init__(self, left: list[int]) -> None:
        super().__init__()
        self._left, self._closing, self.aborted = left, False, asyncio.Event()

    def get_write_buffer_size(self) -> int:
        return self._left.pop(0) if len(self._left) > 1 else self._left[0]

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self.aborted.set()


@pytest.mark.parametrize(
    ("left", "cut_off"),
    [([100], True), ([0], False), (list(range(1000, 0, -10)), False)],
    ids=["stuck", "gone", "less"],
)
def test_a_closed_connection_does_not_wait_for_its_reader_for_ever(left: list[int], *, cut_off: bool) -> None:
    async def ends() -> bool:
        config, limits = Config(lambda *_: None, lifespan="off"), Limits(Settings(Path("/"), receive=0.02))
        kind = bounded_protocol(limits, draining=lambda: False, rejected=lambda _: None)
        connection, transport = kind(config, ServerState(), {}, asyncio.get_running_loop()), Full(list(left))
        connection.connection_made(transport)
        connection.transport.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(transport.aborted.wait(), 20.0 if cut_off else 0.3)
        return transport.aborted.is_set()

    assert asyncio.run(ends()) is cut_off


@pytest.mark.slow
def test_a_reader_that_takes_its_time_gets_all(strict: Server) -> None:
    """Something in each span of time is enough, however long the whole takes."""
    tensors = [("key", "UINT64", 1), ("count", "INT64", _LARGE)]
    inputs = [{"name": name, "datatype": kind, "shape": [1], "data": [value]} for name, kind, value in tensors]
    body = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    received, pause = 0, threading.Event()
    with connected(strict) as connection:
        connection.sendall(head("/v2/models/sampler/infer", content_length=len(body), connection="close") + body)
        begin = time.monotonic()
        while part := connection.recv(100_000):
            received += len(part)
            pause.wait(_SECONDS / 40)
    assert time.monotonic() - begin > 2 * _SECONDS
    assert received > _LARGE * (8 + 3) * 4


def test_readers_who_leave_give_their_places_back(strict: Server) -> None:
    for _ in range(2 * _QUEUE):
        with leaving(strict, b'{"count": %d}' % _LARGE):
            pass
    wait_for(lambda: strict.ask("POST", "/sample", "{}").status == 200, seconds=60, what="a place in the queue")
    wait_for(lambda: queue_is_empty(strict), seconds=60, what="the end of all streams")


def test_connections_beyond_the_limit_are_refused_and_the_others_served(strict: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(_CONNECTIONS):
            stack.enter_context(connected(strict))
        for _ in range(2 * _QUEUE):
            answer = strict.ask("GET", "/v2")
            assert answer.status == 503
            assert answer.json() == {"error": "there are too many connections; ask again later"}
            assert answer.headers["retry-after"] == "1"
        assert strict.ask("GET", "/v2/health/live").status == 200  # or an orchestrator would end it
    wait_for(lambda: strict.ask("GET", "/v2").status == 200, seconds=60, what="a connection")


@pytest.fixture(scope="module")
def narrow(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose queue has one place."""
    limits = ("--queue", "1", "--receive", "5", *_LONG_ANSWERS)
    with serving(bundle, tmp_path_factory.mktemp("narrow"), *limits) as server:
        yield server


_LONG_ANSWERS = ("--max-json", str(64 * 2**20))
_LONG = b'{"count": 300000}'  # whose answer in JSON takes seconds to make


@contextlib.contextmanager
def occupied(server: Server) -> Iterator[None]:
    """The queue has no place left while an answer is made that takes seconds."""
    with connected(server) as connection:
        connection.sendall(head("/sample", content_length=len(_LONG)) + _LONG)
        wait_for(lambda: server.ask("GET", "/v2").status == 429, seconds=60, what="a full queue")
        yield


@pytest.fixture
def busy(narrow: Server) -> Iterator[Server]:
    """It while the place is taken, by an answer that takes a second of a core: tests of it are slow."""
    with occupied(narrow):
        yield narrow
    wait_for(lambda: narrow.ask("POST", "/sample", "{}").status == 200, seconds=60, what="a place in the queue")


def answers_to(connection: socket.socket, *requests: bytes) -> list[bytes]:
    """Answers to requests that are sent together; the last one asks for health."""
    connection.sendall(b"".join(requests) + b"GET /v2/health/live HTTP/1.1\r\n\r\n")
    found = b""
    while not found.endswith(b'{"live":true}'):
        part = connection.recv(65536)
        assert part, found
        found += part
    return found.split(b"HTTP/1.1 ")[1:]


_BODY = b"{}" + bytes(3000)


_REFUSED = {
    "post": (head(content_length=len(_BODY)) + _BODY, True),
    "chunked": (head(transfer_encoding="chunked") + b"bb8\r\n" + _BODY[:3000] + b"\r\n0\r\n\r\n", True),
    "get": (b"GET /v2 HTTP/1.1\r\n\r\n", True),
    "head": (b"HEAD /v2 HTTP/1.1\r\n\r\n", False),
    "bad address": (b"GET http://[::bad HTTP/1.1\r\n\r\n", True),
}


@pytest.mark.slow
def test_a_full_server_says_so_and_keeps_the_connection(busy: Server) -> None:
    for name, (request, content) in _REFUSED.items():
        with connected(busy) as connection:
            for _ in range(2):
                *refused, alive = answers_to(connection, request, request)
                assert alive.startswith(b"200 OK"), name
                assert len(refused) == 2, name
                for answer in refused:
                    lines, _, body = answer.partition(b"\r\n\r\n")
                    assert lines.startswith(b"429 Too Many Requests\r\n"), name
                    assert {b"retry-after: 1", b"content-type: application/json"} < set(lines.split(b"\r\n")), name
                    assert b"\r\ndate: " in lines, name
                    assert body == (b'{"error":"the queue is full; ask again later"}' if content else b""), name


@pytest.mark.slow
def test_a_full_server_answers_before_it_has_the_body_and_drops_that(busy: Server) -> None:
    with connected(busy) as connection:
        connection.sendall(head(content_length=len(_BODY)) + _BODY[:7])
        assert status(connection.recv(65536)) == 429
        (alive,) = answers_to(connection, _BODY[7:])
        assert alive.startswith(b"200 OK")


@pytest.mark.slow
def test_the_rest_of_a_body_that_was_refused_must_arrive_in_time_too(busy: Server) -> None:
    with connected(busy) as connection:
        connection.sendall(head(content_length=50) + b"{")
        assert status(connection.recv(65536)) == 429
        assert everything(connection) == b""


@pytest.mark.slow
def test_a_flood_on_one_connection_ends_it_and_nobody_else_waits(busy: Server) -> None:
    with connected(busy) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /v2 HTTP/1.1\r\n\r\n" * 12_000)
        assert everything(connection).count(b"HTTP/1.1 429") <= 16
    assert busy.ask("GET", "/v2/health/live").status == 200


@pytest.mark.slow
def test_a_full_server_closes_where_the_client_wants_it(busy: Server) -> None:
    for line in (b"HTTP/1.0\r\n", b"HTTP/1.0\r\nconnection: keep-alive\r\n", b"HTTP/1.1\r\nconnection: close\r\n"):
        with connected(busy) as connection:
            connection.sendall(b"GET /v2 " + line + b"\r\n")
            assert status(everything(connection)) == 429, line


@pytest.mark.slow
def test_a_full_server_tells_how_often_it_refused(busy: Server) -> None:
    refused, bad = (("volvae_turned_away_total", ("status", number)) for number in ("429", "400"))
    before = Counter(busy.metrics())
    for _ in range(3):
        assert busy.ask("POST", "/sample", "{}").status == 429
    with connected(busy) as connection:
        connection.sendall(b"GARBAGE\r\n\r\n")
        assert status(everything(connection)) == 400
    found = busy.metrics()
    assert found[refused] == before[refused] + 3
    assert found[bad] == before[bad] + 1
    assert found["volvae_queue",] >= 1


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GARBAGE\r\n\r\n",
        b"GET http://[::bad HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        head(content_length=-1),
        head(content_length=2**70),
        b"POST /sample HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"POST /sample HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}",
        head(transfer_encoding="chunked") + b"zz\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_takes_no_place(strict: Server, sent: bytes) -> None:
    for _ in range(2 * _QUEUE):
        with connected(strict) as connection:
            connection.sendall(sent)
            answer = everything(connection)
        assert status(answer) == 400
        assert b"content-type: application/json" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"error": "this is not a request of HTTP/1.1"}
    assert strict.ask("GET", "/v2").status == 200


def test_what_breaks_off_behind_a_stream_does_not_stand_within(strict: Server) -> None:
    body = b'{"count": %d}' % _LARGE
    first = head("/sample", content_length=len(body), accept="application/octet-stream") + body
    with connected(strict) as connection:
        connection.sendall(first)
        found = connection.recv(4096)
        connection.sendall(head("/sample", transfer_encoding="chunked") + b"zz\r\n")
        found += everything(connection)
    assert found.count(b"HTTP/1.1 ") == 1


def test_so_many_requests_wait_for_the_one_before(strict: Server) -> None:
    first = head("/sample", content_length=2) + b"{}"
    with connected(strict) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(first + b"GET /v2 HTTP/1.1\r\n\r\n" * 13_000)
        assert everything(connection).count(b"HTTP/1.1 ") <= 17
    assert is_well(strict)


def test_what_is_not_http_behind_a_request_does_not_answer_it(strict: Server) -> None:
    with connected(strict) as connection:
        connection.sendall(head("/sample", content_length=2) + b"{}GARBAGE\r\n\r\n")
        assert everything(connection)[:12] in (b"", b"HTTP/1.1 200")


@pytest.mark.slow
def test_a_full_server_that_drains_sends_its_clients_away(bundle: Path, tmp_path: Path) -> None:
    limits = ("--queue", "1", "--receive", "30", "--drain", "5", "--grace", "1", *_LONG_ANSWERS)
    with serving(bundle, tmp_path, *limits) as server, occupied(server):
        assert server.ask("GET", "/v2").headers.get("connection") is None
        server.process.terminate()
        wait_for(lambda: server.ask("GET", "/v2/health/ready").status == 503, seconds=60, what="the drain")
        with connected(server) as connection:
            connection.sendall(b"GET /v2 HTTP/1.1\r\n\r\n")
            answer = everything(connection)
        assert status(answer) == 429
        assert b"\r\nconnection: close\r\n" in answer


_SAMPLE = b'{"count":1}'
_SENT = [
    head("/sample", content_length=len(_SAMPLE)) + _SAMPLE,
    head("/sample", content_length=len(_SAMPLE), expect="100-continue") + _SAMPLE,
    head("/sample", transfer_encoding="chunked") + b"b\r\n" + _SAMPLE + b"\r\n0\r\n\r\n",
    head("/sample", content_length=16, accept="application/octet-stream") + b'{"count": 50000}',
    head(content_length=2) + b"{}",
    b"GET /v2/health/live HTTP/1.1\r\n\r\n",
    b"HEAD /v2 HTTP/1.1\r\n\r\n",
    b"GET /v2 HTTP/1.0\r\n\r\n",
    b"GET /v2 HTTP/1.1\r\nconnection: close\r\n\r\n",
    b"GET /v2 HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    b"GET http://[::bad HTTP/1.1\r\n\r\n",
    b"GARBAGE\r\n\r\n",
    b"\r\n",
]


def send_anything(server: Server, seed: int) -> None:
    """Connections of a client who sends several requests at once or half of one, reads or not, and leaves."""
    chance = random.Random(seed)
    for _ in range(40):
        with contextlib.suppress(OSError), connected(server) as connection:
            for _ in range(chance.randint(1, 4)):
                data = b"".join(chance.choices(_SENT, k=chance.choice([1, 1, 2, 5])))
                end = len(data) if chance.random() < 0.7 else chance.randint(0, len(data))
                cut = chance.randint(0, end)
                for part in (data[:cut], data[cut:end]):
                    connection.sendall(part)
                connection.settimeout(chance.choice([0.001, 0.02, 0.2]))
                if chance.random() < 0.8 and not connection.recv(65536):
                    break


@pytest.mark.slow
@pytest.mark.parametrize("limits", [(1, 1000), (4, 10), (64, 1000)], ids=["narrow", "crowded", "roomy"])
def test_whatever_clients_do_no_place_is_lost_and_nothing_fails(
    bundle: Path, tmp_path: Path, limits: tuple[int, int]
) -> None:
    queue, connections = map(str, limits)
    with serving(bundle, tmp_path, "--receive", "0.4", "--queue", queue, "--connections", connections) as server:
        threads = [threading.Thread(target=send_anything, args=(server, seed)) for seed in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive()
        wait_for(lambda: server.ask("POST", "/sample", "{}").status == 200, seconds=60, what="a connection")
        wait_for(lambda: queue_is_empty(server), seconds=60, what="an empty queue")
        assert [line for line in server.lines() if line["level"] != "info"] == []
