"""Whatever is sent: a right answer or a refusal that says why, by the parser and by the server."""

import contextlib
import http.client
import json
import math
import socket
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deploy.server import endpoints, oip_protocol
from deploy.server.errors import ProtocolError
from deploy.server.oip_protocol import DATATYPES, HEADER_LENGTH
from tests.deploy.serving import Answer, Server, ask, inputs_of
from vae.runtime import SurfaceModel

_MODELS = ("decoder", "encoder", "sampler", "completer", "scorer")
_KINDS = ("application/json", "application/x-ndjson", "application/octet-stream", "*/*", "text/html", ";,")
_quietly = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}

_DIGITS = b"7" * 400
_LITERALS = (
    b"", b"{", b"[]", b"null", b"NaN", b"Infinity", b"1e999", _DIGITS, b'"\\ud800"', b"\xff\xfe", b"\x00",
    b'{"inputs":',
    b"[" * 100_000, b'{"inputs":' + b"[" * 50_000 + b"]" * 50_000 + b"}", b'{"inputs": [], "inputs": []}', b"{}{}",
    b'{"inputs": [], "id": "\\udc00"}', b'{"count": ' + _DIGITS + b"}", b'{"seed": ' + _DIGITS * 20 + b"}",
    b'{"seed": ' + _DIGITS + b"}", b'{"offset": ' + _DIGITS + b"}",
    b'{"iv": [NaN], "tenor": [0.5], "log_moneyness": [-Infinity]}', b'{"iv": [[[' + _DIGITS + b"]]]}",
    b'{"conditions": {"\\u0000": 1e308}}', b'{"iv": [1e-320], "tenor": [1e308], "log_moneyness": [1e308]}',
    b'{"iv": [0.2], "tenor": [0.5], "call_delta": [0.9999999999999999]}', b'{"temperature": 1e-320, "offset": 0}',
)  # fmt: skip

edges = st.sampled_from([0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, 10**399])
integers = edges | st.integers(0, 40) | st.integers(-(2**65), 2**65)
numbers = integers | st.floats() | st.none() | st.booleans()
anything = st.recursive(
    numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


class Sent(NamedTuple):
    """A body, and how long it says that its JSON is."""

    header: Any
    body: bytes
    length: int


@st.composite
def tensors(draw: st.DrawFn, names: tuple[str, ...]) -> tuple[dict[str, Any], bytes]:
    """An input, more often right than wrong, and its bytes behind the JSON."""
    kind = draw(st.sampled_from([*DATATYPES, *DATATYPES, "FP64"]))
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3) | st.lists(integers, max_size=5))
    small = all(0 < length < 4 for length in shape)
    count = math.prod(shape) if small else draw(st.integers(0, 9))
    tensor = {"name": draw(st.sampled_from(names)), "shape": shape, "datatype": kind}
    if draw(st.booleans()):
        width = DATATYPES[kind].itemsize if kind in DATATYPES else 8
        content = draw(st.binary(min_size=width * count, max_size=width * count))
        size = draw(st.just(len(content)) | st.just(len(content)) | integers)
        return tensor | {"parameters": {"binary_data_size": size}}, content
    values = {"FP32": st.floats(width=32, allow_nan=False, allow_infinity=False), "BOOL": st.booleans()}
    right: Any = draw(st.lists(values.get(kind, integers), min_size=count, max_size=count))
    if draw(st.booleans()) and small:
        nested = np.empty(count, object)
        nested[:] = right
        right = nested.reshape(shape).tolist()
    return tensor | {"data": draw(st.just(right) | st.just(right) | st.lists(numbers, max_size=4) | anything)}, b""


@st.composite
def near(draw: st.DrawFn, values: Mapping[str, np.ndarray]) -> list[tuple[dict[str, Any], bytes]]:
    """The tensors of a right call, of which one may be another."""
    parts = []
    for name, array in values.items():
        tensor = {"name": name, "shape": list(array.shape), "datatype": oip_protocol.datatype(array)}
        binary = tensor | {"parameters": {"binary_data_size": array.nbytes}}, array.tobytes()
        parts.append(draw(st.sampled_from([binary, (tensor | {"data": array.tolist()}, b"")])))
    if draw(st.booleans()):
        parts[draw(st.integers(0, len(parts) - 1))] = draw(tensors((*values, "other")))
    return parts


@st.composite
def frames(draw: st.DrawFn, inputs: st.SearchStrategy[list[tuple[dict[str, Any], bytes]]]) -> list[Sent]:
    """A header with the tensors behind it, of which each may be wrong: whole, cut, longer, and of another length."""
    parts = draw(inputs)
    header: Any = {"inputs": [tensor for tensor, _ in parts]}
    if draw(st.booleans()):
        header |= {"id": draw(st.text(max_size=5)), "parameters": {"binary_data_output": draw(st.booleans())}}
    if draw(st.integers(0, 4)) == 0:
        header |= draw(st.dictionaries(st.sampled_from(["inputs", "outputs", "id", "parameters", "x"]), anything))
    text = json.dumps(header).encode()
    tail = b"".join(content for _, content in parts)
    cut, more = draw(st.integers(0, len(tail))), draw(st.binary(min_size=1, max_size=9))
    shift = draw(st.integers(-len(text), len(tail)))
    tails = (tail, tail[:cut], tail + more)
    return [*(Sent(header, text + each, len(text)) for each in tails), Sent(header, text + tail, len(text) + shift)]


def framed(inputs: st.SearchStrategy[list[tuple[dict[str, Any], bytes]]]) -> st.SearchStrategy[Sent]:
    """One of them, in half of all cases the whole."""
    return st.builds(list.__getitem__, frames(inputs), st.sampled_from([0, 0, 0, 1, 2, 3]))


def flat(data: Any) -> list[Any]:
    return [value for part in data for value in flat(part)] if isinstance(data, list) else [data]


def check_inputs(sent: Sent, found: Mapping[str, np.ndarray]) -> None:
    """Each tensor holds what was sent, integers to the last digit."""
    place = sent.length
    assert found.keys() == {tensor["name"] for tensor in sent.header["inputs"]}
    for tensor in sent.header["inputs"]:
        array = found[tensor["name"]]
        assert (array.dtype, array.shape) == (DATATYPES[tensor["datatype"]], tuple(tensor["shape"]))
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is not None:
            assert array.tobytes() == sent.body[place : place + size]
            place += size
        elif array.dtype.kind == "f":
            with np.errstate(over="ignore"):
                expected = np.array([math.nan if v is None else float(v) for v in flat(tensor["data"])]).astype(
                    array.dtype
                )
            np.testing.assert_array_equal(array.ravel(), expected)
        else:
            assert array.ravel().tolist() == flat(tensor["data"])
    assert place == len(sent.body)


class Decoded(NamedTuple):
    request: oip_protocol.Request
    inputs: Mapping[str, np.ndarray]


def decode(body: bytes, length: int) -> Decoded:
    """Request and tensors of a body whose JSON has this length."""
    request = oip_protocol.read(body[:length])
    return Decoded(request, oip_protocol.tensors(request, body, length))


_read = {True: 0, False: 0}


@settings(max_examples=1500, **_quietly)
@given(found=frames(st.lists(tensors(("z", "iv", "key")), max_size=3)))
def check_parser(found: list[Sent]) -> None:
    for sent in found:
        try:
            _, inputs = decode(sent.body, sent.length)
        except ProtocolError as error:
            assert str(error)  # noqa: PT017 - a refusal is one of two good ends
            _read[False] += 1
        else:
            check_inputs(sent, inputs)
            _read[True] += 1


@pytest.mark.slow
@pytest.mark.no_cover  # as of every property, see tests/conftest.py
def test_the_parser_reads_what_was_sent_or_refuses() -> None:
    check_parser()
    assert min(_read.values()) > 300, "both ends are tried"


@pytest.mark.slow
@settings(max_examples=2000, **_quietly)
@given(body=st.binary(max_size=200) | anything.map(json.dumps).map(str.encode), length=st.integers(0, 200))
def test_the_parser_refuses_what_is_no_request(body: bytes, length: int) -> None:
    with contextlib.suppress(ProtocolError):
        assert not decode(body, min(length, len(body))).inputs


@pytest.mark.parametrize("body", _LITERALS, ids=lambda body: repr(body[:20]))
def test_the_parser_knows_the_worst(body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert not decode(body, len(body)).inputs


@pytest.mark.slow
@settings(max_examples=500, **_quietly)
@given(header=st.text(max_size=25) | integers.map(str), whole=st.integers(0, 2**40))
@example(header="²", whole=10)
@example(header="+1", whole=10)
@example(header="1_0", whole=100)
@example(header="", whole=0)
def test_a_length_is_one_within_the_body(header: str, whole: int) -> None:
    if header.isascii() and header.isdigit() and int(header) <= whole:
        assert oip_protocol.json_length(header.encode(), whole) == int(header)
    else:
        with pytest.raises(ProtocolError, match=f"allowed: 0 to {whole}"):
            oip_protocol.json_length(header.encode(), whole)


def one(kind: str, *values: object) -> bytes:
    tensor = {"name": "key", "shape": [len(values)], "datatype": kind, "data": values}
    return json.dumps({"inputs": [tensor]}).encode()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("UINT64", (2**64 - 1,)),
        ("UINT64", (0, 2**64 - 1)),
        ("INT64", (2**53 + 1, -(2**63), 2**63 - 1)),
    ],
)
def test_integers_stay_exact(kind: str, values: tuple[int, ...]) -> None:
    body = one(kind, *values)
    assert decode(body, len(body)).inputs["key"].tolist() == list(values)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("UINT64", (2**64,), "out of the range of UINT64: 0 to 18446744073709551615"),
        ("UINT64", (-1, 2**63), "out of the range of UINT64"),
        ("INT64", (2**63,), "out of the range of INT64: -9223372036854775808 to 9223372036854775807"),
        ("INT64", (10**300,), "out of the range of INT64"),
        ("UINT64", (1.0,), "data that is not UINT64"),
        ("UINT64", (1, None), "data that is not UINT64"),
        ("INT64", (1, True), "data that is not INT64"),
        ("FP32", (10**310,), "data that is not FP32"),
    ],
)
def test_what_is_no_such_integer_is_refused(kind: str, values: tuple[object, ...], message: str) -> None:
    body = one(kind, *values)
    with pytest.raises(ProtocolError, match=message):
        decode(body, len(body))


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[http.client.HTTPConnection]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        yield connection


def check_refusal(answer: Answer) -> None:
    assert 400 <= answer.status < 500, (answer.status, answer.body[:500])
    content = answer.json()
    assert content.keys() == {"error"}
    assert content["error"]


@pytest.mark.slow
@pytest.mark.no_cover  # as of every property, see tests/conftest.py
@pytest.mark.parametrize("name", _MODELS)
def test_inference_is_right_or_refused(
    server: Server, model: SurfaceModel, connection: http.client.HTTPConnection, name: str
) -> None:
    """A right answer is what the model makes of the request in this process, to the byte."""
    version, called, right = server.version(), endpoints.make_endpoints(model)[name], []

    @settings(max_examples=150, **_quietly)
    @given(
        sent=framed(near(inputs_of(model)[name])),
        length=st.none() | st.none() | st.none() | st.text("0123456789-+ ,x", max_size=9),
    )
    def check(sent: Sent, length: str | None) -> None:
        headers = {HEADER_LENGTH: str(sent.length) if length is None else length}
        answer = ask(connection, "POST", f"/v2/models/{name}/infer", sent.body, headers)
        if answer.status != 200:
            check_refusal(answer)
            return
        json_length = oip_protocol.json_length(headers[HEADER_LENGTH].strip().encode(), len(sent.body))
        request, inputs = decode(sent.body, json_length)
        outputs = endpoints.run(called, inputs, deadline=math.inf)
        wanted = request.outputs or dict.fromkeys(outputs, request.binary)
        assert answer.body == oip_protocol.encode(name, version, request.id, wanted, outputs).body
        right.append(answer)

    check()
    assert 10 < len(right) < 140, "both ends are tried"
    assert not server.said("a request failed")


@pytest.mark.slow
@pytest.mark.no_cover  # as of every property, see tests/conftest.py
def test_surface_routes_answer_or_refuse(server: Server, connection: http.client.HTTPConnection) -> None:
    fields = ["count", "seed", "offset", "temperature", "conditions", "iv", "tenor", "log_moneyness", "call_delta"]
    fields += ["days", "dates", "state", "previous", "elapsed", "log_return"]
    values = st.integers(0, 40) | st.lists(st.floats(0.01, 2.0), min_size=1, max_size=2) | anything
    bodies = st.dictionaries(st.sampled_from(fields), values, max_size=4) | anything

    @settings(max_examples=400, **_quietly)
    @given(
        path=st.sampled_from(["/sample", "/scenarios", "/complete", "/score"]),
        body=bodies,
        accept=st.sampled_from(_KINDS),
    )
    def check(path: str, body: object, accept: str) -> None:
        answer = ask(connection, "POST", path, json.dumps(body).encode(), {"accept": accept})
        if answer.status != 200:
            check_refusal(answer)
        elif answer.headers["content-type"] == "application/json":
            assert answer.json()["model_version"] == answer.headers["volvae-model-version"]

    check()
    assert not server.said("a request failed")


@pytest.mark.parametrize("body", _LITERALS, ids=lambda body: repr(body[:20]))
def test_the_worst_is_refused_or_answered_by_every_route(
    server: Server, connection: http.client.HTTPConnection, body: bytes
) -> None:
    for path in (
        "/v2/models/decoder/infer",
        "/v2/models/sampler/infer",
        "/sample",
        "/scenarios",
        "/complete",
        "/score",
    ):
        for accept in ("application/json", "application/octet-stream"):
            answer = ask(connection, "POST", path, body, {"accept": accept})
            if answer.status != 200:
                check_refusal(answer)
    assert not server.said("a request failed")


def test_a_body_that_ends_early_ends_the_connection(server: Server) -> None:
    whole = one("UINT64", 7)
    head = f"POST /v2/models/sampler/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(whole)}\r\n\r\n".encode()
    for cut in range(0, len(whole), 7):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(head + whole[:cut])
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""
    assert server.ask("POST", "/sample", "{}").status == 200
    assert server.metrics()["volvae_queue",] == 0
