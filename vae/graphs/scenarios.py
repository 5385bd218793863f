"""``scenarios.onnx``: one step of the law of motion, with the random numbers made inside the graph.

Inputs are a state for each row and the days of the week that the step goes through; outputs are a surface for each row,
the log return of the underlying and the next state, so that several steps are several calls. Where ``observed`` is
true, the move is not drawn but is the one to the given surface: so the same graph filters. Random numbers are those of
``vae.graphs.sampler``: a row depends on the key and its number only.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from onnx import compose
from torch import Tensor, nn

from vae.bundle import Layout
from vae.dynamics import law as motion
from vae.dynamics.law import Law
from vae.graphs import export
from vae.graphs.sampler import uniform_graph
from vae.model.autoencoder import Vae

OUTPUTS = ("iv", "log_return", "next_coordinates", "next_recent", "next_variances", "shocks")


class Step(nn.Module):
    """One step; see ``vae.dynamics.law``, of which this is the same arithmetic on tensors."""

    reversal: Tensor
    calendar: Tensor
    decays: Tensor
    table: Tensor

    def __init__(self, model: Vae, law: Law, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.shape, self.rank = model, shape, law.basis.shape[1]
        self.ageing = float(law.ageing[0])
        self.shared = [0, *range(self.rank, len(law.reversal))]
        tables = {"reversal": law.reversal, "calendar": law.calendar, "decays": law.decays, "table": law.shocks}
        for name, value in tables.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)).to(model.center))

    def forward(
        self,
        uniform: Tensor,
        coordinates: Tensor,
        recent: Tensor,
        variances: Tensor,
        week: Tensor,
        surface: Tensor,
        surface_return: Tensor,
        observed: Tensor,
    ) -> tuple[Tensor, ...]:
        """The outputs, by the names of ``OUTPUTS``.

        Args:
            uniform: random numbers on (0, 1], [batch, 1].
            coordinates: of the state, [batch, R].
            recent: of the state, [batch, C].
            variances: of the state, [batch, decay, P].
            week: how many of each day of the week pass, Monday first, [7].
            surface: vols that the step leads to where it is observed, [tenor, node].
            surface_return: log return of the underlying there, [1].
            observed: whether it is, bool [1].
        """
        mean = (self.reversal * self._reversing(recent)).sum(2) + self.calendar @ week
        chosen = self._draw(uniform[:, 0])
        shocks = self.table[chosen]
        deviation = (variances.sum(1) / len(self.decays)).sqrt()  # ReduceMean has no kernel on CUDA
        drawn = mean + self._to_coordinates(deviation * shocks)
        seen = self.model.read(surface.flatten().unsqueeze(0)).values
        move = torch.where(
            observed, self._with_return(seen - coordinates, surface_return.expand_as(drawn[:, 0])), drawn
        )
        innovation = self._to_points(move - mean)
        kept = self.decays.unsqueeze(1)
        after = coordinates + move[:, : self.rank]
        iv = self.model.expand(after).unflatten(-1, self.shape)
        log_return = move[:, self.rank :].sum(1)
        return (
            iv,
            log_return,
            after,
            motion.MEMORY * (recent + move),
            kept * variances + (1.0 - kept) * innovation.square().unsqueeze(1),
            chosen,
        )

    def _draw(self, uniform: Tensor) -> Tensor:
        """As ``vae.dynamics.law.draw``."""
        count, ageing = len(self.table), self.ageing
        age = count * uniform if ageing == 1.0 else (1.0 - (1.0 - ageing**count) * uniform).log() / math.log(ageing)
        return count - 1 - age.long().clamp(max=count - 1)

    def _reversing(self, recent: Tensor) -> Tensor:
        """As ``vae.dynamics.law.reversing``."""
        common = recent[:, self.shared].unsqueeze(1).expand(-1, recent.shape[1], -1)
        return torch.cat([recent.unsqueeze(2), common], dim=2)

    def _with_return(self, moves: Tensor, log_return: Tensor) -> Tensor:
        """Moves of surfaces [batch, R] with the return [batch], if the law has one."""
        has_return = len(self.shared) > 1
        return torch.cat([moves, log_return.unsqueeze(1)], dim=1) if has_return else moves

    def _to_points(self, moves: Tensor) -> Tensor:
        return torch.cat([moves[:, : self.rank] @ self.model.basis.T, moves[:, self.rank :]], dim=1)

    def _to_coordinates(self, moves: Tensor) -> Tensor:
        points = len(self.model.basis)
        return torch.cat([moves[:, :points] @ self.model.basis, moves[:, points:]], dim=1)


def scenarios_graph(model: Vae, law: Law, layout: Layout, metadata: Mapping[str, str]) -> bytes:
    """``scenarios.onnx``: inputs key, offset and count of random rows, a state, a week and perhaps a surface.

    Args:
        model: whose coordinates the law moves, in single precision.
        law: of motion.
        layout: of surfaces.
        metadata: of the file.
    """
    moves, points = len(law.reversal), law.shocks.shape[1]
    inputs = {
        "uniform": torch.full((2, 1), 0.5),
        "coordinates": torch.zeros(2, law.basis.shape[1]),
        "recent": torch.zeros(2, moves),
        "variances": torch.ones(2, len(law.decays), points),
        "week": torch.zeros(motion.WEEK),
        "surface": torch.full(layout.shape, 0.2),
        "surface_return": torch.zeros(1),
        "observed": torch.zeros(1, dtype=torch.bool),
    }
    rows = ("uniform", "coordinates", "recent", "variances")
    step = export.program(
        Step(model, law, layout.shape),
        inputs,
        outputs=list(OUTPUTS),
        free={name: {0: "batch"} for name in rows},
    )
    whole = compose.merge_models(uniform_graph(1), step, io_map=[("uniform", "uniform")])
    return export.finished(whole, metadata)
