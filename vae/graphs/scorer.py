"""``scorer.onnx``: from surfaces or vectors and their mask to how likely, well fitted and common they are."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from vae.bundle import Layout
from vae.graphs.export import data_inputs, finished
from vae.graphs.search import PointStart, point_names, point_problem, point_step, pose_data, search_graph
from vae.model.autoencoder import Vae
from vae.model.laplace import SearchState, search
from vae.model.point_errors import point_errors
from vae.model.point_posterior import PointProblem, evidence_at, posterior_given_points

STEPS = 3


def scorer_graph(model: Vae, layout: Layout, metadata: Mapping[str, str]) -> bytes:
    """``scorer.onnx``: inputs iv or x, and mask, in single precision; outputs in the model's dtype.

    Outputs are those of ``Scored``. The search takes all of its steps, so that no row depends on the others.
    """
    inputs = data_inputs(model, layout)
    of_rows = (*inputs, "points", "known", "precision", "factor_covariance", *SearchState._fields)
    graph = search_graph(
        PointStart(model),
        point_step(model, until_still=False),
        End(model, layout.shape),
        inputs,
        posed=point_names(model),
        end_reads=("z", "cost", "curvature"),
        outputs=Scored._fields,
        free={name: {0: "batch"} for name in of_rows},
        most_steps=STEPS,
        until_still=False,
    )
    return finished(graph, metadata)


class Scored(NamedTuple):
    """The outputs of the graph, of surfaces or vectors.

    Attributes:
        nats: log density of the known points in units of the data, [batch].
        misfit: chi-square of their errors about the nearest surface of the model, [batch].
        distance: squared length of the latents of that surface, [batch].
        error: of each point given the others, in its standard deviations, [batch, tenor, node] or [batch, D].
    """

    nats: Tensor
    misfit: Tensor
    distance: Tensor
    error: Tensor


def scored(model: Vae, x: Tensor, mask: Tensor | None) -> Scored:
    """The outputs of the graph by torch, of surfaces [batch, tenor, node] or vectors [batch, D] and their mask."""
    problem, start = pose_data(model, x, mask)
    found = search(posterior_given_points(model, problem), start, steps=STEPS)
    return _scored(model, problem, found.z, found.cost, found.curvature, x.shape[1:])


def _scored(
    model: Vae, problem: PointProblem, z: Tensor, cost: Tensor, curvature: Tensor, shape: tuple[int, ...]
) -> Scored:
    found = point_errors(model, problem, z, curvature)
    misfit, distance, error = (part.to(z.dtype) for part in (found.misfit, z.square().sum(1), found.error))
    return Scored(evidence_at(model, problem, cost, curvature), misfit, distance, error.unflatten(1, shape))


class End(nn.Module):
    """The problem and the end of the search -> the parts of ``Scored``."""

    def __init__(self, model: Vae, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.shape = model, shape

    def forward(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """Nats, misfit, distance and errors."""
        *posed, z, cost, curvature = parts
        return tuple(_scored(self.model, point_problem(posed), z, cost, curvature, self.shape))
