"""``completer.onnx``: from quotes anywhere inside the grid to the complete surface with its standard deviations.

Levenberg-Marquardt steps run inside the graph until they converge. The part before the steps, one step, and the part
after them are traced as three graphs and joined by an ONNX ``Loop``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vae.graphs.export import finished, program
from vae.graphs.onnx_loop import loop_graph
from vae.model import completion, laplace
from vae.model.autoencoder import Vae
from vae.model.completion import QuoteProblem, Quotes
from vae.model.laplace import SearchState
from vae.model.quote_weights import QuoteInterpolator
from vae.surface.grid import Grid

_POSED = ("quoted", "weights", "precision")
_KEPT = ("z", "curvature")  # the parts of the state that the end reads


def completer_graph(model: Vae, grid: Grid, metadata: Mapping[str, str]) -> bytes:
    """``completer.onnx``: inputs log_moneyness, tenor, iv and weight, all [quote], in single precision.

    Outputs are the surface and its standard deviations [tenor, node], the most probable latents z [latent], the vols of
    the surface at the quotes, and whether a quote lies inside the grid, both [quote].

    Raises:
        ValueError: the model's noise is not Gaussian.
    """
    completion.check_gaussian(model)
    examples = {"log_moneyness": 0.0, "tenor": float(grid.tenors[0]), "iv": 0.2, "weight": 1.0}
    quotes = {name: torch.full((3,), value) for name, value in examples.items()}
    first = Start(model, grid)
    with torch.no_grad():
        made = [part.clone() for part in first(*quotes.values())]
    posed = dict(zip(_POSED, made, strict=False))
    state = SearchState(*made[-len(SearchState._fields) :])._asdict()
    step = {"tenor": quotes["tenor"], **posed, **{f"now_{name}": part for name, part in state.items()}}
    last = {"tenor": quotes["tenor"], "weights": posed["weights"], **{f"last_{name}": state[name] for name in _KEPT}}
    free = {name: {0: "quote"} for name in (*quotes, "quoted", "weights")} | {"precision": {1: "quote"}}
    graph = loop_graph(
        program(first, quotes, outputs=[*_POSED, "used", *(f"first_{name}" for name in state)], free=free),
        program(Step(model), step, outputs=["moving", *(f"next_{name}" for name in state)], free=free),
        program(End(model, grid), last, outputs=["surface", "std", "z", "fitted"], free=free),
        state=SearchState._fields,
        condition="moving",
        most=completion.MOST_STEPS,
    )
    return finished(graph, metadata)


class Start(nn.Module):
    """Quotes -> the inputs of the steps, which quotes are used, and the state before the first step."""

    def __init__(self, model: Vae, grid: Grid) -> None:
        super().__init__()
        self.model = model
        self.reader = QuoteInterpolator(grid).to(model.center)  # a name inside the shipped graph, kept for its bytes

    def forward(self, log_moneyness: Tensor, tenor: Tensor, iv: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        """Quoted vols, weights, precision, used, and the parts of the state."""
        quotes = Quotes(log_moneyness, tenor, iv, weight)
        problem, start, weights = completion.prepare_quotes(self.model, self.reader, quotes)
        state = laplace.start_search(completion.posterior_given_quotes(self.model, problem), start)
        return problem.quoted, problem.weights, problem.precision, weights.inside, *state


class Step(nn.Module):
    """The state before a step -> whether another step follows, and the state after it."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tenor: Tensor,
        quoted: Tensor,
        weights: Tensor,
        precision: Tensor,
        z: Tensor,
        cost: Tensor,
        slope: Tensor,
        curvature: Tensor,
        damping: Tensor,
        change: Tensor,
    ) -> tuple[Tensor, ...]:
        """Whether another step follows, and the parts of the state."""
        posterior = completion.posterior_given_quotes(self.model, QuoteProblem(quoted, tenor, weights, precision))
        after = laplace.search_step(posterior, SearchState(z, cost, slope, curvature, damping, change))
        return after.moving, *after


class End(nn.Module):
    """Latents and their curvature -> the surface."""

    def __init__(self, model: Vae, grid: Grid) -> None:
        super().__init__()
        self.model, self.shape = model, grid.shape

    def forward(self, tenor: Tensor, weights: Tensor, z: Tensor, curvature: Tensor) -> tuple[Tensor, ...]:
        """Surface and standard deviations [tenor, node], latents, and vols at the quotes."""
        found = completion.completion_at(self.model, z, curvature)
        fitted = completion.vols_at(weights, tenor, found.mean).squeeze(0)
        surface, std = (part.squeeze(0).unflatten(0, self.shape) for part in (found.mean, found.std))
        return surface, std, z.squeeze(0), fitted
