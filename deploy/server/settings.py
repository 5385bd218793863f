"""What the server is told, from the command line or from VOLVAE_*, checked once."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

if TYPE_CHECKING:
    from vae.runtime import Provider

ENVIRONMENT = "VOLVAE"
_MIB = 2**20
_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Settings:
    """All that a server is told.

    Attributes:
        bundle: folder of the model; where it is a symbolic link, the name of its target is the version.
        host, port: where it listens.
        workers: processes, each with all models.
        threads: of one call of a graph.
        provider: of onnxruntime.
        poll: seconds between looks at the bundle.
        queue: requests of one worker that run or wait.
        connections: of one worker.
        max_body: bytes of one request.
        max_answer: bytes of one answer that is not streamed, its numbers in binary.
        max_json: bytes of JSON in a request, and of the numbers of an answer in JSON.
        max_count: surfaces of one stream.
        deadline: seconds that a call may take, its time in the queue included.
        receive: seconds in which a request must arrive, and in which a reader must take something.
        drain: seconds after SIGTERM in which it goes on serving but is not ready.
        grace: seconds that requests in flight have after that.
        log_requests: whether each request makes a line, of its shape only.
        token: what a request must bear; None for no such need.
    """

    bundle: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    threads: int = 1
    provider: "Provider" = "auto"
    poll: float = 2.0
    queue: int = 64
    connections: int = 1024
    max_body: int = 64 * _MIB
    max_answer: int = 64 * _MIB
    max_json: int = 8 * _MIB
    max_count: int = 1_000_000
    deadline: float = 30.0
    receive: float = 10.0
    drain: float = 1.0
    grace: int = 20
    log_requests: bool = False
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        token = self.token
        if token is not None and not (token and token.isascii() and token.isprintable() and token == token.strip()):
            raise ValueError(f"{ENVIRONMENT}_TOKEN must be printable ASCII, not empty, without spaces around it")

    @property
    def open_to_others(self) -> bool:
        """Whether other machines can reach it and need no token."""
        try:
            local = ip_address(self.host).is_loopback
        except ValueError:
            local = self.host == "localhost"
        return not local and self.token is None


def options(command: _Command) -> _Command:
    """Give a click command an option for each setting but bundle and token."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class _Seconds(click.FloatRange):
    """A range without NaN, which click lets pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return found


def _number(
    name: str, default: float, least: float, most: float, text: str, *, kind: Literal["count", "seconds"] = "count"
) -> Callable[[_Command], _Command]:
    range_ = click.IntRange(int(least), int(most)) if kind == "count" else _Seconds(least, most)
    return click.option(name, type=range_, default=default, show_default=True, help=text)


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at."),
    _number("--port", 8000, 0, 65535, "Port to listen at; 0 for a free one."),
    _number("--workers", 1, 1, 256, "Processes, each with all models."),
    _number("--threads", 1, 0, 256, "Threads of one call; 0 for one a core."),
    click.option(
        "--provider",
        type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
        default="auto",
        show_default=True,
        help="Where to run.",
    ),
    _number("--poll", 2.0, 0.01, 3600.0, "Seconds between looks for a new model.", kind="seconds"),
    _number("--queue", 64, 1, 10_000, "Requests of a worker that run or wait; more get 429."),
    _number("--connections", 1024, 1, 60_000, "Connections of a worker; more get 503."),
    _number("--max-body", 64 * _MIB, 1024, 2 * 1024 * _MIB, "Bytes of a request; more get 413."),
    _number("--max-answer", 64 * _MIB, 1024, 2 * 1024 * _MIB, "Bytes of an answer that is not streamed."),
    _number("--max-json", 8 * _MIB, 1024, 256 * _MIB, "Bytes of JSON; more must go in binary."),
    _number("--max-count", 1_000_000, 1, 2**40, "Surfaces of one stream."),
    _number("--deadline", 30.0, 0.01, 86400.0, "Seconds that a call may take or wait.", kind="seconds"),
    _number("--receive", 10.0, 0.05, 3600.0, "Seconds in which a request must arrive.", kind="seconds"),
    _number("--drain", 1.0, 0.0, 600.0, "Seconds after SIGTERM to go on, not ready.", kind="seconds"),
    _number("--grace", 20, 0, 3600, "Seconds that requests in flight have then."),
    click.option("--log-requests", is_flag=True, help="A line for each request, of its shape only."),
)
