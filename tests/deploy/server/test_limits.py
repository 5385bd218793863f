"""Limits of a worker: calls, and the bytes of request bodies."""

import asyncio
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from deploy.server.errors import BusyError, RefusedError
from deploy.server.limits import QUICK_JSON, Admission, Body, Limits
from deploy.server.settings import Settings


@pytest.fixture
def limits() -> Limits:
    return Limits(Settings(Path("/"), max_body=10, max_json=4, max_answer=8, max_count=3))


def sent(*chunks: bytes, leaves: bool = False) -> Request:
    """A request whose body comes in these chunks, after which the client may leave."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if leaves:
        messages.append({"type": "http.disconnect"})
    else:
        messages[-1]["more_body"] = False
    waiting = iter(messages)

    async def receive() -> dict:
        return next(waiting)

    return Request({"type": "http"}, receive)


def read(body: Body, request: Request) -> bytes:
    return asyncio.run(body.read(request))


def test_admission_counts_waiting_and_running_calls() -> None:
    admission = Admission(2)
    admission.waiting += 1
    assert not admission.full
    with admission:
        assert (admission.count, admission.full) == (2, True)
        with admission, pytest.raises(BusyError):
            admission.__enter__()
    assert (admission.running, admission.count) == (0, 1)


def test_a_body_is_read_whole_and_gives_its_memory_back(limits: Limits) -> None:
    with Body(limits) as body:
        assert read(body, sent(b"abc", b"", b"def")) == b"abcdef"
        assert limits.body_bytes == 6
    assert limits.body_bytes == 0


def test_a_body_that_is_too_large_is_refused_before_its_end(limits: Limits) -> None:
    with Body(limits) as body, pytest.raises(HTTPException, match="the body is too large; allowed: 10 bytes"):
        read(body, sent(b"123456", b"789012", leaves=True))
    assert limits.body_bytes == 0


def test_a_client_that_leaves_within_its_body_is_noticed(limits: Limits) -> None:
    with Body(limits) as body, pytest.raises(ClientDisconnect):
        read(body, sent(b"123", leaves=True))
    assert limits.body_bytes == 0


def test_bodies_together_take_no_more_than_four_times_the_largest(limits: Limits) -> None:
    bodies = [Body(limits) for _ in range(5)]
    for body in bodies[:4]:
        read(body, sent(b"x" * 10))
    with bodies[4] as last, pytest.raises(BusyError):
        read(last, sent(b"x"))
    assert limits.body_bytes == 40
    with bodies[0]:
        pass
    with Body(limits) as body:
        assert read(body, sent(b"x" * 10)) == b"x" * 10


def test_sizes_are_refused_one_beyond_their_limit(limits: Limits) -> None:
    limits.check_json(b"1234", 4)
    limits.check_count(3)
    limits.check_answer(8, in_json=False)
    limits.check_answer(4, in_json=True)
    with pytest.raises(HTTPException):
        limits.check_json(b"12345", 5)
    with pytest.raises(RefusedError):
        limits.check_count(4)
    with pytest.raises(RefusedError):
        limits.check_answer(9, in_json=False)
    with pytest.raises(RefusedError):
        limits.check_answer(5, in_json=True)


@pytest.mark.parametrize(
    ("item", "most"), [(b"1", 524_288), (b"[]", 524_288), (b"[[1]]", 262_144), (b"{}", 1024)], ids=repr
)
def test_json_of_many_small_parts_is_refused_before_it_is_read(item: bytes, most: int) -> None:
    """Within 8 MiB there is room for two million lists, which take Python seconds."""
    limits = Limits(Settings(Path("/")))
    right, wrong = (b",".join([item] * number) + b" " * QUICK_JSON for number in (most, most + 2))
    limits.check_json(right, len(right))
    with pytest.raises(HTTPException, match="JSON has at most 524288 numbers or lists and 1024 objects here"):
        limits.check_json(wrong, len(wrong))


def test_a_stream_that_goes_on_is_never_refused() -> None:
    admission = Admission(1)
    with admission:
        with admission.readmitted():
            assert admission.count == 2
        assert admission.full
    assert admission.count == 0
