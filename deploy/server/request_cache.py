"""Cache of parsed request headers: clients that send binary tensors repeat the same JSON.

To parse and check that JSON takes longer than to run the decoder.
"""

from typing import NamedTuple

from starlette.types import Message, Receive, Scope, Send

from deploy.server import oip_protocol
from deploy.server.endpoints import Endpoint, Tensors, check, check_outputs

_MAX_BYTES = 4096  # of JSON that is cached
_MAX_HEADERS = 256  # of one endpoint
_MAX_SHAPES = 16  # of answers to one header


class Reply:
    """An answer as an application; its headers are ready to send, while Starlette's Response would encode each."""

    __slots__ = ("_body", "_start")

    def __init__(self, start: Message, body: bytes) -> None:
        self._start, self._body = start, body

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        """Send it."""
        await send(self._start)
        await send({"type": "http.response.body", "body": self._body})


class _Template(NamedTuple):
    """The parts that answers with outputs of the same shapes share."""

    start: Message
    json: bytes


class InferenceHeader:
    """The JSON of an inference request, parsed and checked: everything but the binary tensors.

    Attributes:
        size: bytes of binary tensors that follow the JSON.
        binary_input: whether all inputs are binary.
        json_output: whether any output is wanted in JSON.
    """

    def __init__(self, endpoint: Endpoint, version: str, content: bytes | memoryview) -> None:
        """Parse and check the JSON of a request.

        Raises:
            ProtocolError: it breaks the protocol.
            RefusedError: the endpoint cannot read such inputs, or lacks an output.
        """
        self._request, self._model, self._version = oip_protocol.read(content), endpoint.name, version
        check(endpoint, self._request.inputs)
        names = [output.name for output in endpoint.outputs]
        self._wanted = self._request.outputs or dict.fromkeys(names, self._request.binary)
        check_outputs(endpoint, self._wanted)
        self.size = self._request.size
        self.binary_input = all(tensor.size is not None for tensor in self._request.inputs)
        self.json_output = not all(self._wanted.values())
        self._templates: dict[tuple[tuple[int, ...], ...], _Template] = {}

    def inputs(self, body: bytes, start: int) -> Tensors:
        """The inputs of a request whose binary tensors begin at this offset of its body.

        Raises:
            ProtocolError: the body has another size than the JSON says.
        """
        return oip_protocol.tensors(self._request, body, start)

    def reply(self, outputs: Tensors) -> Reply:
        """The answer with these outputs."""
        arrays = [outputs[name] for name in self._wanted]
        shapes = tuple([array.shape for array in arrays])
        template = self._templates.get(shapes)
        if template is not None:
            return Reply(template.start, b"".join([template.json, *map(oip_protocol.content_of, arrays)]))
        answer = oip_protocol.encode(self._model, self._version, self._request.id, self._wanted, outputs)
        start = _start(answer)
        if not self.json_output and len(self._templates) < _MAX_SHAPES:
            self._templates[shapes] = _Template(start, answer.body[: answer.header_length])
        return Reply(start, answer.body)


def _start(answer: oip_protocol.Answer) -> Message:
    """Status and HTTP headers of an answer."""
    length = (b"content-length", b"%d" % len(answer.body))
    if answer.header_length is None:
        headers = [length, (b"content-type", b"application/json")]
    else:
        json_length = (oip_protocol.HEADER_LENGTH.encode(), b"%d" % answer.header_length)
        headers = [length, (b"content-type", b"application/octet-stream"), json_length]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def read_header(endpoint: Endpoint, version: str, body: bytes, length: int) -> InferenceHeader:
    """The header of a request whose JSON has this length; with binary tensors behind it, from the endpoint's cache."""
    if length == len(body) or length > _MAX_BYTES:
        return InferenceHeader(endpoint, version, memoryview(body)[:length])
    content = body[:length]
    header: InferenceHeader | None = endpoint.header_cache.get(content)
    if header is None:
        header = InferenceHeader(endpoint, version, content)
        if header.binary_input and length + header.size == len(body):  # JSON with numbers is hardly ever repeated
            if len(endpoint.header_cache) == _MAX_HEADERS:
                del endpoint.header_cache[next(iter(endpoint.header_cache))]  # the oldest
            endpoint.header_cache[content] = header
    return header
