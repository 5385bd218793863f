"""What all routes share: settings, the model that is served, bounds, and how an answer says no."""

from starlette.exceptions import HTTPException
from starlette.responses import Response

from deploy.server.admission import BusyError, Queue
from deploy.server.answers import Error, json_response
from deploy.server.batching import Engine
from deploy.server.bodies import Bodies
from deploy.server.endpoints import LateError, RefusedError
from deploy.server.metrics import Metrics
from deploy.server.oip_protocol import ProtocolError
from deploy.server.reload import Follower
from deploy.server.settings import Settings


class Service:
    """The state of one worker.

    Attributes:
        draining: whether it is about to stop.
    """

    def __init__(self, settings: Settings, follower: Follower, metrics: Metrics) -> None:
        self.settings, self.follower, self.metrics = settings, follower, metrics
        self.queue = Queue(settings.queue)
        self.engine = Engine(deadline=settings.deadline, metrics=metrics)
        self.draining = False
        self.bodies = Bodies(most=settings.max_body)

    def check_json(self, length: int) -> None:
        """Raise HTTPException where so many bytes of JSON are too many."""
        if length > self.settings.max_json:
            raise HTTPException(413, f"JSON has at most {self.settings.max_json} bytes here; send tensors in binary")

    def check_size(self, size: int, *, in_json: bool) -> None:
        """Raise RefusedError where an answer with numbers of so many bytes is too large."""
        if size > self.settings.max_answer:
            raise RefusedError(f"the answer would have {size} bytes; allowed: {self.settings.max_answer}, ask for less")
        if in_json and size > self.settings.max_json:
            raise RefusedError(
                f"the answer would have {size} bytes of numbers; in JSON {self.settings.max_json} are allowed, ask for "
                f"less or in binary"
            )


def no(status: int, why: str, headers: dict[str, str] | None = None) -> Response:
    """An answer that says what is wrong, as the protocol does."""
    return json_response(Error(why), status, headers)


def refusal(error: Exception) -> Response:
    """The answer to what went wrong."""
    match error:
        case HTTPException():
            return no(error.status_code, error.detail, dict(error.headers or {}))
        case ProtocolError() | RefusedError():
            return no(400, str(error))
        case BusyError():
            return BUSY
        case LateError():
            return no(504, "there was no answer before the deadline")
        case _:
            return no(500, "the server failed; its log says where")


BUSY = no(429, "the queue is full; ask again later", {"retry-after": "1"})
CROWDED = no(503, "there are too many connections; ask again later", {"retry-after": "1", "connection": "close"})
