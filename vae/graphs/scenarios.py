"""``scenarios.onnx``: one step of the law of motion, with the random numbers made inside the graph.

Inputs are a state for each row and the days of the week that the step goes through; outputs are a surface for each row,
the log return of the underlying and the next state, so that several steps are several calls. Where ``observed`` is
true, the move is not drawn but is the one to the given surface: so the same graph filters. Random numbers are those of
``vae.graphs.sampler``: a row depends on the key and its number only.

Scenarios have the law given that the surface is free of static arbitrage: a row takes the first of its candidates that
is, in a loop that ends when all rows have one. A row of which no candidate is takes the last, and ``arbitrage_free``
says so. Where the strikes of a grid move, in deltas, the first is taken, and the graph has no such output.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from onnx import compose
from torch import Tensor, nn

from vae.dynamics.law import MOVE_DECAY, TRIES, WEEK, Law
from vae.graphs import export
from vae.graphs.onnx_loop import loop_graph
from vae.graphs.sampler import uniform_graph
from vae.model.arbitrage_penalty import ArbitragePenalty
from vae.model.autoencoder import Vae
from vae.surface.grid import Grid

OUTPUTS = ("iv", "log_return", "next_coordinates", "next_recent", "next_variances", "shocks")
ARBITRAGE_FREE = "arbitrage_free"  # one more, of a grid that is not in deltas
_POSED = ("mean", "deviation", "seen")
_CHOICE = ("places", "settled", "candidates")  # the parts of the state of the loop ...
_CHOSEN = _CHOICE[:2]  # ... and those that are read after it


class Motion(nn.Module):
    """The part that the others share: ``vae.dynamics.law`` on tensors."""

    reversal: Tensor
    calendar: Tensor
    decays: Tensor
    table: Tensor
    elasticity: Tensor

    def __init__(self, model: Vae, law: Law, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.shape, self.rank = model, shape, law.basis.shape[1]
        self.ageing = float(law.ageing[0])
        self.shared = [0, *range(self.rank, len(law.reversal))]
        self.follows = bool(law.elasticity.any())
        tables = {"reversal": law.reversal, "calendar": law.calendar, "decays": law.decays, "table": law.shocks}
        tables |= {"elasticity": law.elasticity}
        for name, value in tables.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)).to(model.center))

    def mean(self, recent: Tensor, week: Tensor) -> Tensor:
        """Of the next move, [batch, C]."""
        common = recent[:, self.shared].unsqueeze(1).expand(-1, recent.shape[1], -1)
        return (self.reversal * torch.cat([recent.unsqueeze(2), common], dim=2)).sum(2) + self.calendar @ week

    def draw(self, uniform: Tensor) -> Tensor:
        """Places of shocks, as ``vae.dynamics.law.draw``."""
        count, ageing = len(self.table), self.ageing
        age = count * uniform if ageing == 1.0 else (1.0 - (1.0 - ageing**count) * uniform).log() / math.log(ageing)
        return count - 1 - age.long().clamp(max=count - 1)

    def drawn(self, mean: Tensor, deviation: Tensor, places: Tensor) -> Tensor:
        """Moves [batch, C] by the shocks at some places, [batch]."""
        points, moves = len(self.model.basis), deviation * self.table[places]
        return mean + torch.cat([moves[:, :points] @ self.model.basis, moves[:, points:]], dim=1)

    def surfaces(self, coordinates: Tensor) -> Tensor:
        """Vols [batch, tenor, node] of coordinates, [batch, R]."""
        found: Tensor = self.model.expand(coordinates).unflatten(-1, self.shape)
        return found

    def to_points(self, moves: Tensor) -> Tensor:
        """Moves of points and return [batch, P] of those of coordinates and return, [batch, C]."""
        return torch.cat([moves[:, : self.rank] @ self.model.basis.T, moves[:, self.rank :]], dim=1)

    def learned(self, variances: Tensor, innovation: Tensor, move: Tensor) -> Tensor:
        """The variances [batch, decay, P] after a move [batch, C]."""
        kept = self.decays.unsqueeze(1)
        found = kept * variances + (1.0 - kept) * innovation.square().unsqueeze(1)
        if not self.follows:
            return found
        return found * (2.0 * move[:, : self.rank] @ self.elasticity).exp().unsqueeze(1)


class Start(nn.Module):
    """Inputs -> the mean and the deviation of the next move, the observed move, and the candidates of the drawn one."""

    def __init__(self, motion: Motion) -> None:
        super().__init__()
        self.motion = motion

    def forward(
        self,
        uniform: Tensor,
        coordinates: Tensor,
        recent: Tensor,
        variances: Tensor,
        week: Tensor,
        surface: Tensor,
        surface_return: Tensor,
        observed: Tensor,  # noqa: ARG002  an input of the whole graph, which the other parts read
    ) -> tuple[Tensor, ...]:
        """All that the choice and the end read, then the parts of the choice.

        Args:
            uniform: random numbers on (0, 1], [batch, candidate].
            coordinates: of the state, [batch, R].
            recent: of the state, [batch, C].
            variances: of the state, [batch, decay, P].
            week: how many of each day of the week pass, Monday first, [7].
            surface: vols that the step leads to where it is observed, [tenor, node].
            surface_return: log return of the underlying there, [1].
            observed: whether it is, bool [1].
        """
        deviation = (variances.sum(1) / variances.shape[1]).sqrt()  # ReduceMean has no kernel on CUDA
        candidates = self.motion.draw(uniform)
        seen = self.motion.model.read(surface.flatten().unsqueeze(0)).values - coordinates
        if len(self.motion.shared) > 1:
            seen = torch.cat([seen, surface_return.unsqueeze(1).expand(seen.shape[0], 1)], dim=1)
        mean = self.motion.mean(recent, week)
        settled = torch.zeros(mean.shape[0], dtype=torch.bool)
        return mean, deviation, seen, candidates[:, 0], settled, candidates


class Choice(nn.Module):
    """The next candidate of each row whose surface so far is not free of static arbitrage."""

    def __init__(self, motion: Motion, grid: Grid) -> None:
        super().__init__()
        self.motion = motion
        self.measure = ArbitragePenalty(grid) if tells_arbitrage(grid) else None

    def forward(
        self,
        coordinates: Tensor,
        observed: Tensor,
        mean: Tensor,
        deviation: Tensor,
        places: Tensor,
        settled: Tensor,
        candidates: Tensor,
    ) -> tuple[Tensor, ...]:
        """Whether a row is not settled; the places of the shocks, which rows are settled, and the candidates left."""
        rows = (~settled).nonzero().squeeze(1)  # never none: runtimes do not take products of nothing
        tried = candidates[rows, 0]
        moves = self.motion.drawn(mean[rows], deviation[rows], tried)
        after = coordinates[rows] + moves[:, : self.motion.rank]
        free = tried >= 0 if self.measure is None else self.measure.free(self.motion.surfaces(after))
        places, settled = places.scatter(0, rows, tried), settled.scatter(0, rows, free | observed)
        return ~settled.all(), places, settled, candidates.roll(-1, 1)


class End(nn.Module):
    """The chosen shocks, or the observed move -> the outputs."""

    def __init__(self, motion: Motion, *, tells_arbitrage: bool) -> None:
        super().__init__()
        self.motion, self.tells_arbitrage = motion, tells_arbitrage

    def forward(
        self,
        coordinates: Tensor,
        recent: Tensor,
        variances: Tensor,
        observed: Tensor,
        mean: Tensor,
        deviation: Tensor,
        seen: Tensor,
        places: Tensor,
        settled: Tensor,
    ) -> tuple[Tensor, ...]:
        """The outputs, by the names of ``OUTPUTS``, and perhaps ``ARBITRAGE_FREE``."""
        move = torch.where(observed, seen, self.motion.drawn(mean, deviation, places))
        innovation = self.motion.to_points(move - mean)
        after = coordinates + move[:, : self.motion.rank]
        return (
            self.motion.surfaces(after),
            move[:, self.motion.rank :].sum(1),
            after,
            MOVE_DECAY * (recent + move),
            self.motion.learned(variances, innovation, move),
            places,
            *((settled,) if self.tells_arbitrage else ()),
        )


def tells_arbitrage(grid: Grid) -> bool:
    """Whether the graph of a grid tells surfaces with arbitrage, and draws others in their places."""
    return grid.convention != "delta"


def scenarios_graph(model: Vae, law: Law, grid: Grid, metadata: Mapping[str, str]) -> bytes:
    """``scenarios.onnx``: inputs key, offset and count of random rows, a state, a week and perhaps a surface.

    Args:
        model: whose coordinates the law moves, in single precision.
        law: of motion.
        grid: of the surfaces.
        metadata: of the file.
    """
    moves, points = len(law.reversal), law.shocks.shape[1]
    outputs = (*OUTPUTS, *((ARBITRAGE_FREE,) if tells_arbitrage(grid) else ()))
    inputs = {
        "uniform": torch.full((2, TRIES), 0.5),
        "coordinates": torch.zeros(2, law.basis.shape[1]),
        "recent": torch.zeros(2, moves),
        "variances": torch.ones(2, len(law.decays), points),
        "week": torch.zeros(WEEK),
        "surface": torch.full(grid.shape, 0.2),
        "surface_return": torch.zeros(1),
        "observed": torch.zeros(1, dtype=torch.bool),
    }
    motion = Motion(model, law, grid.shape)
    start = Start(motion)
    with torch.no_grad():
        made = [part.clone() for part in start(*inputs.values())]
    posed, choice = dict(zip(_POSED, made, strict=False)), dict(zip(_CHOICE, made[len(_POSED) :], strict=True))
    now = {f"now_{name}": part for name, part in choice.items()}
    last = {f"last_{name}": choice[name].clone() for name in _CHOSEN}
    rows = ("uniform", "coordinates", "recent", "variances", *posed, *now, *last)
    free = {name: {0: "batch"} for name in rows}
    known = inputs | posed
    chosen = {name: known[name] for name in ("coordinates", "observed", "mean", "deviation")} | now
    ended = {
        name: known[name] for name in ("coordinates", "recent", "variances", "observed", "mean", "deviation", "seen")
    } | last
    step = loop_graph(
        export.program(start, inputs, outputs=[*_POSED, *(f"first_{part}" for part in _CHOICE)], free=free),
        export.program(
            Choice(motion, grid), chosen, outputs=["open", *(f"next_{part}" for part in _CHOICE)], free=free
        ),
        export.program(End(motion, tells_arbitrage=tells_arbitrage(grid)), ended, outputs=list(outputs), free=free),
        state=_CHOICE,
        condition="open",
        most=TRIES,
    )
    whole = compose.merge_models(uniform_graph(TRIES), step, io_map=[("uniform", "uniform")])
    return export.finished(whole, metadata)
