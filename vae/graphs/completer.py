"""``completer.onnx``: from quotes anywhere inside the grid to the complete surface with its standard deviations.

Levenberg-Marquardt steps run inside the graph until they converge. The part before the steps, one step, and the part
after them are traced as three graphs and joined by an ONNX ``Loop``.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vae.graphs.export import finished, program
from vae.graphs.onnx_loop import loop_graph
from vae.model import completion, laplace
from vae.model.autoencoder import Vae
from vae.model.completion import QuoteProblem, Quotes
from vae.model.laplace import LatentPrior, SearchState
from vae.model.quote_weights import QuoteInterpolator
from vae.surface.grid import Grid
from vae.surface.reading_error import ReadingError

_POSED = ("quoted", "weights", "precision")
_PRIOR = ("prior_mean", "prior_precision")  # posed too where a market may be named
_KEPT = ("z", "curvature")  # the parts of the state that the end reads


def completer_graph(
    model: Vae,
    grid: Grid,
    metadata: Mapping[str, str],
    priors: Sequence[LatentPrior] = (),
    reading: ReadingError | None = None,
) -> bytes:
    """``completer.onnx``: inputs log_moneyness, tenor, iv and weight, all [quote], in single precision.

    Outputs are the surface and its standard deviations [tenor, node], the most probable latents z [latent], the vols of
    the surface at the quotes, and whether a quote lies inside the grid, both [quote].

    Args:
        model: in single precision.
        grid: of the surfaces.
        metadata: of the file.
        priors: the distribution of the latents in each market; the graph then has an input ``market`` [1], its place
            among them or -1 for N(0, I).
        reading: errors of reading surfaces between the points of the grid; none by default.
    """
    examples = {"log_moneyness": 0.0, "tenor": float(grid.tenors[0]), "iv": 0.2, "weight": 1.0}
    quotes = {name: torch.full((3,), value) for name, value in examples.items()}
    names = _POSED + (_PRIOR if priors else ())
    inputs = quotes | ({"market": torch.full((1,), -1)} if priors else {})
    first = Start(model, grid, priors, reading)
    with torch.no_grad():
        made = [part.clone() for part in first(*inputs.values())]
    posed = dict(zip(names, made, strict=False))
    state = SearchState(*made[-len(SearchState._fields) :])._asdict()
    moving = {f"now_{name}": part for name, part in state.items()}
    step = {"tenor": quotes["tenor"], **{name: posed[name] for name in _POSED}, **moving}
    step |= {name: posed[name] for name in names[len(_POSED) :]}
    last = {"tenor": quotes["tenor"], "weights": posed["weights"], **{f"last_{name}": state[name] for name in _KEPT}}
    free = {name: {0: "quote"} for name in (*quotes, "quoted", "weights")} | {"precision": {1: "quote"}}
    graph = loop_graph(
        program(first, inputs, outputs=[*names, "used", *(f"first_{name}" for name in state)], free=free),
        program(Step(model), step, outputs=["moving", *(f"next_{name}" for name in state)], free=free),
        program(End(model, grid), last, outputs=["surface", "std", "z", "fitted"], free=free),
        state=SearchState._fields,
        condition="moving",
        most=completion.MOST_STEPS,
    )
    return finished(graph, metadata)


class Start(nn.Module):
    """Quotes -> the inputs of the steps, which quotes are used, and the state before the first step.

    The priors of the markets are rows of two tables, whose last row is N(0, I), for no market.
    """

    means: Tensor
    precisions: Tensor

    def __init__(
        self, model: Vae, grid: Grid, priors: Sequence[LatentPrior] = (), reading: ReadingError | None = None
    ) -> None:
        super().__init__()
        self.model = model
        if priors:
            identity = torch.eye(model.architecture.latents, dtype=torch.float64)
            free = LatentPrior(torch.zeros_like(identity[0]), identity)
            for name, rows in zip(("means", "precisions"), zip(*priors, free, strict=True), strict=True):
                self.register_buffer(name, torch.stack(rows))
        self.reader = QuoteInterpolator(grid, reading).to(
            model.center
        )  # a name inside the shipped graph, kept for its bytes

    def forward(
        self, log_moneyness: Tensor, tenor: Tensor, iv: Tensor, weight: Tensor, market: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Quoted vols, weights, precision, the market's prior where there are markets, used, the parts of the state."""
        quotes = Quotes(log_moneyness, tenor, iv, weight)
        problem, start, weights = completion.prepare_quotes(self.model, self.reader, quotes)
        if market is not None:
            prior = LatentPrior(self.means[market].squeeze(0), self.precisions[market].squeeze(0))
            problem = problem._replace(prior=prior)
        state = laplace.start_search(completion.posterior_given_quotes(self.model, problem), start)
        posed = (problem.quoted, problem.weights, problem.precision, *(problem.prior or ()))
        return *posed, weights.inside, *state


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
        prior_mean: Tensor | None = None,
        prior_precision: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Whether another step follows, and the parts of the state."""
        prior = None
        if prior_mean is not None and prior_precision is not None:
            prior = LatentPrior(prior_mean, prior_precision)
        problem = QuoteProblem(quoted, tenor, weights, precision, prior)
        posterior = completion.posterior_given_quotes(self.model, problem)
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
