"""Settings of the server: one dataclass, whose fields become the options of `volvae serve` and VOLVAE_* variables."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import click
from click import Choice, FloatRange, IntRange

if TYPE_CHECKING:
    from vae.runtime import Provider

ENVIRONMENT = "VOLVAE"
_MIB = 2**20
_BYTES = IntRange(1024, 2048 * _MIB)
_PROVIDERS = Choice(["auto", "cpu", "cuda", "tensorrt"])
_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Option(NamedTuple):
    """Help text of an option, and the type that checks it; None for that of the default."""

    help: str
    type: "click.ParamType[Any] | None" = None


class _Number(FloatRange):
    """A range of floats that refuses NaN, which click accepts."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return found


@dataclass(frozen=True)
class Settings:
    """All settings of a server; the help text of each option describes it.

    Three settings are no options. ``bundle`` is the folder of the model; if it is a symbolic link, the name of the
    link's target is the version. ``challenger`` is the folder of a model to compare with it, None for none. ``token``
    is the bearer token that requests must carry, None for none; as other users of a machine see the arguments of a
    process, it comes from the environment only.
    """

    bundle: Path
    host: Annotated[str, _Option("Address to listen at.")] = "127.0.0.1"
    port: Annotated[int, _Option("Port to listen at; 0 for a free one.", IntRange(0, 65535))] = 8000
    grpc_port: Annotated[
        int | None, _Option("Port for gRPC; 0 for a free one, none by default.", IntRange(0, 65535))
    ] = None
    workers: Annotated[int, _Option("Processes, each with all models.", IntRange(1, 256))] = 1
    threads: Annotated[int, _Option("Threads of one call; 0 for one a core.", IntRange(0, 256))] = 1
    provider: Annotated["Provider", _Option("Where to run.", _PROVIDERS)] = "auto"
    poll: Annotated[float, _Option("Seconds between looks for a new model.", _Number(0.01, 3600.0))] = 2.0
    queue: Annotated[int, _Option("Requests of a worker that run or wait; more get 429.", IntRange(1, 10_000))] = 64
    connections: Annotated[int, _Option("Connections of a worker; more get 503.", IntRange(1, 60_000))] = 1024
    max_body: Annotated[int, _Option("Bytes of a request; more get 413.", _BYTES)] = 64 * _MIB
    max_answer: Annotated[int, _Option("Bytes of an answer that is not streamed.", _BYTES)] = 64 * _MIB
    max_json: Annotated[int, _Option("Bytes of JSON; more must go in binary.", IntRange(1024, 256 * _MIB))] = 8 * _MIB
    max_count: Annotated[int, _Option("Surfaces of one stream.", IntRange(1, 2**40))] = 1_000_000
    deadline: Annotated[float, _Option("Seconds that a call may take or wait.", _Number(0.01, 86400.0))] = 30.0
    receive: Annotated[float, _Option("Seconds in which a request must arrive.", _Number(0.05, 3600.0))] = 10.0
    drain: Annotated[float, _Option("Seconds after SIGTERM to go on, not ready.", _Number(0.0, 600.0))] = 1.0
    grace: Annotated[int, _Option("Seconds that requests in flight have then.", IntRange(0, 3600))] = 20
    log_requests: Annotated[bool, _Option("A line for each request, of its shape only.")] = False
    challenger_share: Annotated[
        float, _Option("Share of completions that compare a challenger.", _Number(0.0, 1.0))
    ] = 0.1
    challenger_answers: Annotated[
        float, _Option("Share of completions that a challenger answers.", _Number(0.0, 1.0))
    ] = 0.0
    hosts: Annotated[str, _Option("Names of the server, with commas; for one without a token.")] = ""
    challenger: Path | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.challenger_answers and not self.challenger_share:
            raise ValueError("--challenger-answers needs a --challenger-share above 0, which withdraws a worse one")
        token = self.token
        if token is not None and not (token and token.isascii() and token.isprintable() and token == token.strip()):
            raise ValueError(f"{ENVIRONMENT}_TOKEN must be printable ASCII, not empty, without spaces around it")

    @property
    def host_names(self) -> frozenset[str]:
        """Names by which requests may call the server, in lower case."""
        names = (name.strip().lower() for name in (*self.hosts.split(","), self.host))
        return frozenset(name for name in names if name)

    @property
    def open_to_others(self) -> bool:
        """Whether other machines can reach the server without a token."""
        try:
            local = ip_address(self.host).is_loopback
        except ValueError:
            local = self.host == "localhost"
        return not local and self.token is None


def options(command: _Command) -> _Command:
    """Give a click command an option for each field of Settings that is one."""
    for setting in reversed(fields(Settings)):
        for option in getattr(setting.type, "__metadata__", ()):
            add = click.option(
                f"--{setting.name.replace('_', '-')}",
                type=option.type,
                default=setting.default,
                is_flag=isinstance(setting.default, bool),
                show_default=True,
                help=option.help,
            )
            command = add(command)
    return command
