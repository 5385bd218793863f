"""Rows of a seed, samples or scenarios: all of them in JSON, or in pieces as lines, as float32 or as tables."""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import numpy as np
from starlette.responses import Response

from deploy.server import answers, requests
from deploy.server.answers import BINARY, LINES, SEED, SHAPE, VERSION, model_response, to_json
from deploy.server.endpoints import Array, check_time
from deploy.server.served import Served
from vae import runtime
from vae.runtime import State, SurfaceModel

if TYPE_CHECKING:
    import pyarrow as pa

_CHUNK_BINARY = 1024  # surfaces of a stream that are computed at a time
_CHUNK_LINES = 64  # the same for text, which takes longer to write
_CHUNK_TABLE = 256  # the same for tables, which have a row for each point


class Draws(Protocol):
    """Rows of a seed that a request wants of one model."""

    @property
    def served(self) -> Served:
        """The model."""
        ...

    @property
    def seed(self) -> int:
        """Of the rows."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all rows in binary."""
        ...

    @property
    def surfaces(self) -> int:
        """Number of surfaces in all rows."""
        ...

    @property
    def counted(self) -> str:
        """The fields of the request that give that number, for messages."""
        ...

    def answer(self, deadline: float) -> Response:
        """All of them in JSON."""
        ...

    def binary(self, start: int, stop: int) -> bytes:
        """Some of them as float32."""
        ...

    def lines(self, start: int, stop: int) -> bytes:
        """Some of them as lines of JSON."""
        ...

    def table(self, start: int, stop: int) -> "pa.RecordBatch":
        """Some of them as rows of a table."""
        ...


class Samples(NamedTuple):
    """The samples that a request wants of one model."""

    served: Served
    request: requests.Sample
    seed: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.request.count, *self.served.surfaces.grid.shape)

    @property
    def surfaces(self) -> int:
        return self.request.count

    @property
    def counted(self) -> str:
        return "count"

    def answer(self, deadline: float) -> Response:
        model = self.served.in_time(deadline)
        iv = self.rows(0, self.request.count, model)
        answer = answers.Sampled(self.served.version, self.seed, answers.Grid.of(model.grid), iv)
        return model_response(answer, headers_of(self))

    def rows(self, start: int, stop: int, model: SurfaceModel) -> Array:
        return model.sample(
            stop - start,
            seed=self.seed,
            conditions=self.request.conditions,
            market=self.request.market,
            temperature=self.request.temperature,
            prior=self.request.prior,
            offset=self.request.offset + start,
            noise=self.request.noise,
        )

    def binary(self, start: int, stop: int) -> bytes:
        return self.rows(start, stop, self.served.surfaces).tobytes()

    def lines(self, start: int, stop: int) -> bytes:
        first = self.request.offset + start
        return b"".join(
            to_json(answers.SampledRow(first + row, iv)) + b"\n"
            for row, iv in enumerate(self.rows(start, stop, self.served.surfaces))
        )

    def table(self, start: int, stop: int) -> "pa.RecordBatch":
        from deploy.server import surface_tables

        model = self.served.surfaces
        first = self.request.offset + start
        return surface_tables.sample(self.rows(start, stop, model), model.grid, first, headers_of(self))


class Paths(NamedTuple):
    """The scenarios that a request wants of one model.

    A date of a path is its log return, 1 if its surface is free of static arbitrage and else 0, and its surface.
    """

    served: Served
    request: requests.Scenarios
    seed: int
    state: State

    @classmethod
    def of(cls, served: Served, request: requests.Scenarios, seed: int) -> Self:
        """The same with the state that the request starts from."""
        return cls(served, request, seed, requests.state_of(served.surfaces, request.state))

    @property
    def shape(self) -> tuple[int, int, int]:
        tenors, nodes = self.served.surfaces.grid.shape
        return self.request.count, self._steps, 2 + tenors * nodes

    @property
    def _steps(self) -> int:
        return self.request.days if self.request.dates is None else len(self.request.dates)

    @property
    def surfaces(self) -> int:
        return self.request.count * self._steps

    @property
    def counted(self) -> str:
        return "count times days"

    def answer(self, deadline: float) -> Response:
        model = self.served.in_time(deadline)
        found = self.rows(0, self.request.count, model)
        dates = [date.isoformat() for date in found.dates]
        own = self.served.version, self.seed, answers.Grid.of(model.grid)
        free = found.arbitrage_free(model.grid, check=partial(check_time, deadline))
        paths = answers.Paths(*own, dates, found.iv, found.log_return, free, int((~free).sum()), found.effective_size)
        return model_response(paths, headers_of(self))

    def rows(self, start: int, stop: int, model: SurfaceModel) -> runtime.Scenarios:
        asked = self.request
        return model.scenarios(
            self.state,
            asked.days if asked.dates is None else asked.dates,
            stop - start,
            seed=self.seed,
            offset=asked.offset + start,
            log_return=asked.log_return,
        )

    def binary(self, start: int, stop: int) -> bytes:
        found = self.rows(start, stop, self.served.surfaces)
        free = found.arbitrage_free(self.served.surfaces.grid).astype(np.float32)
        flat = found.iv.reshape(*found.log_return.shape, -1)
        return np.concatenate([found.log_return[..., None], free[..., None], flat], axis=2).tobytes()

    def lines(self, start: int, stop: int) -> bytes:
        first, found = self.request.offset + start, self.rows(start, stop, self.served.surfaces)
        paths = zip(found.iv, found.log_return, found.arbitrage_free(self.served.surfaces.grid), strict=True)
        return b"".join(to_json(answers.Path(first + row, *path)) + b"\n" for row, path in enumerate(paths))

    def table(self, start: int, stop: int) -> "pa.RecordBatch":
        from deploy.server import surface_tables

        found = self.rows(start, stop, self.served.surfaces)
        first = self.request.offset + start
        return surface_tables.paths(found, self.served.surfaces.grid, first, headers_of(self))


def writer_of(draws: Draws, kind: str) -> tuple[int, Callable[[int, int], bytes]]:
    """How many surfaces of a stream are computed at a time, and what writes those from one row to another."""
    if kind == LINES:
        return _CHUNK_LINES, draws.lines
    if kind == BINARY:
        return _CHUNK_BINARY, draws.binary
    from deploy.server.tables import Writer

    writer = Writer(kind)
    return _CHUNK_TABLE, lambda start, stop: writer.write(draws.table(start, stop), last=stop == draws.shape[0])


def nbytes(draws: Draws) -> int:
    """Size of all rows in binary."""
    return 4 * math.prod(draws.shape)


def headers_of(draws: Draws) -> dict[str, str]:
    """Of the answer."""
    return {VERSION: draws.served.version, SEED: str(draws.seed), SHAPE: ",".join(map(str, draws.shape))}
