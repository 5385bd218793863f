"""What the JSON of a request asks of a model: read and checked once for all requests that say the same.

Clients that send tensors in binary say the same again and again, and to read it takes longer than the model.
"""

from typing import NamedTuple

from starlette.types import Message, Receive, Scope, Send

from deploy.server import oip_protocol
from deploy.server.endpoints import Model, RefusedError, Tensors, check

_SHORT = 4096  # bytes of JSON that are kept
_MOST = 256  # of them, for each model
_MOST_SHAPES = 16  # of answers to one


class Reply:
    """An answer as an application: its head is known, where Starlette's would look at each header."""

    __slots__ = ("_body", "_start")

    def __init__(self, start: Message, body: bytes) -> None:
        self._start, self._body = start, body

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        """Send it."""
        await send(self._start)
        await send({"type": "http.response.body", "body": self._body})


class _Same(NamedTuple):
    """What answers with outputs of the same shapes have in common."""

    start: Message
    json: bytes


class Plan:
    """A call of a model, but for the numbers.

    Attributes:
        size: bytes of tensors that follow the JSON.
        in_binary: whether these are all the inputs.
        in_json: whether any output is wanted in JSON.
    """

    def __init__(self, model: Model, version: str, content: bytes | memoryview) -> None:
        """Read and check the JSON of a request.

        Raises:
            ProtocolError: it breaks the protocol.
            RefusedError: the model cannot read such inputs, or lacks an output.
        """
        self._request, self._model, self._version = oip_protocol.read(content), model.name, version
        check(model, self._request.inputs)
        names = [output.name for output in model.outputs]
        self._wanted = self._request.outputs or dict.fromkeys(names, self._request.binary)
        if unknown := self._wanted.keys() - names:
            raise RefusedError(f"{model.name} has no output {min(unknown)!r}; it has {', '.join(names)}")
        self.size = self._request.size
        self.in_binary = all(tensor.size is not None for tensor in self._request.inputs)
        self.in_json = not all(self._wanted.values())
        self._same: dict[tuple[tuple[int, ...], ...], _Same] = {}

    def inputs(self, body: bytes, start: int) -> Tensors:
        """The inputs of a request whose tensors begin at this place of its body.

        Raises:
            ProtocolError: the body is not as the JSON says.
        """
        return oip_protocol.tensors(self._request, body, start)

    def reply(self, outputs: Tensors) -> Reply:
        """The answer with these outputs."""
        arrays = [outputs[name] for name in self._wanted]
        shapes = tuple([array.shape for array in arrays])
        same = self._same.get(shapes)
        if same is not None:
            return Reply(same.start, b"".join([same.json, *map(oip_protocol.content_of, arrays)]))
        answer = oip_protocol.encode(self._model, self._version, self._request.id, self._wanted, outputs)
        start = _start(answer)
        if not self.in_json and len(self._same) < _MOST_SHAPES:
            self._same[shapes] = _Same(start, answer.body[: answer.header_length])
        return Reply(start, answer.body)


def _start(answer: oip_protocol.Answer) -> Message:
    """The head of an answer."""
    length = (b"content-length", b"%d" % len(answer.body))
    if answer.header_length is None:
        headers = [length, (b"content-type", b"application/json")]
    else:
        told = (oip_protocol.HEADER_LENGTH.encode(), b"%d" % answer.header_length)
        headers = [length, (b"content-type", b"application/octet-stream"), told]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def plan_of(model: Model, version: str, body: bytes, length: int) -> Plan:
    """The plan of a request whose JSON has this length; it is kept with the model where tensors follow behind."""
    if length == len(body) or length > _SHORT:
        return Plan(model, version, memoryview(body)[:length])
    content = body[:length]
    plan: Plan | None = model.plans.get(content)
    if plan is None:
        plan = Plan(model, version, content)
        if plan.in_binary and length + plan.size == len(body):  # or it holds data, or nobody says it again
            if len(model.plans) == _MOST:
                del model.plans[next(iter(model.plans))]  # the oldest
            model.plans[content] = plan
    return plan
