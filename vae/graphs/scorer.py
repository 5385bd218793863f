"""``scorer.onnx``: from surfaces or vectors and their mask to the log density of their known points."""

from collections.abc import Mapping

from torch import Tensor, nn

from vae.bundle import Layout
from vae.graphs.export import data_inputs, finished
from vae.graphs.search import PointStart, Step, point_names, point_problem, search_graph
from vae.model.autoencoder import Vae
from vae.model.laplace import SearchState
from vae.model.point_posterior import evidence_at, log_evidence, posterior_given_points

STEPS = 3


def scorer_graph(model: Vae, layout: Layout, metadata: Mapping[str, str]) -> bytes:
    """``scorer.onnx``: inputs iv or x, and mask, in single precision; output nats [batch] in the model's dtype.

    The search takes all of its steps, so that no row depends on the others.
    """
    inputs = data_inputs(model, layout)
    of_rows = (*inputs, "points", "known", "precision", "factor_covariance", *SearchState._fields)
    graph = search_graph(
        PointStart(model),
        Step(model, lambda parts: posterior_given_points(model, point_problem(parts)), until_still=False),
        End(model),
        inputs,
        posed=point_names(model),
        outputs=["nats"],
        free={name: {0: "batch"} for name in of_rows},
        most=STEPS,
        until_still=False,
    )
    return finished(graph, metadata)


def nats(model: Vae, x: Tensor, mask: Tensor | None) -> Tensor:
    """What the graph computes, [batch], of surfaces [batch, tenor, node] or vectors [batch, D] and their mask."""
    dtype = model.center.dtype
    missing = None if mask is None else 1.0 - mask.flatten(1).to(dtype)
    return log_evidence(model, x.flatten(1).to(dtype), missing, steps=STEPS)


class End(nn.Module):
    """The problem and the end of the search -> nats of the density of the data in their units."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, *parts: Tensor) -> Tensor:
        """The evidence, by Laplace's approximation, [batch]."""
        *posed, _, cost, curvature = parts
        return evidence_at(self.model, point_problem(posed), cost, curvature)
